import { type EntitySchema, MikroORM, defineConfig } from '@mikro-orm/postgresql';
import { Migrator } from '@mikro-orm/migrations';
import { returnBrokenConnections } from './broken-connections.ts';

export interface OrmOptions {
  url: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- a list of schemas of different entities
  entities: EntitySchema<any, any>[];
  /** Connections that this process may open. */
  poolSize: number;
}

// No statement, transaction or connection attempt waits for ever. A process that is frozen in the middle of a transaction must not hold
// its locks longer than others are ready to wait for them.
const connectionBounds = {
  application_name: 'obraz',
  // What is answered is kept, whatever the server's own default says: with `off` a crash loses the last acknowledged commits.
  options: '-c synchronous_commit=on',
  connectionTimeoutMillis: 10_000,
  statement_timeout: 30_000,
  idle_in_transaction_session_timeout: 20_000,
  keepAlive: true,
  keepAliveInitialDelayMillis: 10_000,
};

/** The ORM, not connected yet: the first query connects. Migrations lie in src/db/migrations. */
export const createOrm = (options: OrmOptions): Promise<MikroORM> =>
  MikroORM.init(
    defineConfig({
      clientUrl: options.url,
      entities: options.entities,
      forceUtcTimezone: true,
      pool: { min: 0, max: options.poolSize, idleTimeoutMillis: 60_000 },
      driverOptions: { onPoolCreated: returnBrokenConnections, ...connectionBounds },
      extensions: [Migrator],
      migrations: { path: `${import.meta.dirname}/migrations`, emit: 'ts', snapshot: false, silent: true },
    }),
  );
