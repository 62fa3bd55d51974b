// A transaction whose connection breaks ends in a ROLLBACK that fails, and after that Kysely (0.29) never gives the connection back: the
// pool counts it as taken for ever, and each restart of PostgreSQL leaves it smaller, until nobody gets a connection any more. So a
// connection that ends while it is taken is given back here.
import type { Pool, PoolClient } from 'pg';

/** For `driverOptions.onPoolCreated`. */
export function returnBrokenConnections(pool: Pool): void {
  const connect = pool.connect.bind<Pool['connect']>(pool);
  const mended = (callback?: Parameters<Pool['connect']>[0]): unknown =>
    // Whoever passes a callback is the pool itself, which gives back what it takes.
    callback === undefined ? connect().then(returnWhenBroken) : connect(callback);
  pool.connect = mended as Pool['connect'];
}

function returnWhenBroken(client: PoolClient): PoolClient {
  const release = client.release.bind(client);
  const onEnd = () => giveBack(true);
  let isTaken = true;
  const giveBack = (error?: Error | boolean): void => {
    if (!isTaken) return;
    isTaken = false;
    client.off('end', onEnd);
    release(error);
  };
  client.once('end', onEnd);
  client.release = giveBack;
  return client;
}
