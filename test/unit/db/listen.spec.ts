import { createServer, connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { expect } from 'chai';
import { Client } from 'pg';
import { Listener } from '../../../src/db/listen.ts';
import { eventually } from '../../support/operations-kit.ts';
import { testDatabase, type TestDatabase } from '../../support/postgres.ts';

describe('Listener', () => {
  let database: TestDatabase;
  let client: Client;
  before(async () => {
    database = await testDatabase();
    client = new Client({ connectionString: database.url });
    await client.connect();
  });
  after(async () => {
    await client.end();
    await database.dispose();
  });

  function record(options: { url?: string; heartbeatMs?: number } = {}) {
    const events: string[] = [];
    const listener = new Listener({
      url: database.url,
      channel: 'Some "channel"',
      ...options,
      onNotification: (payload) => events.push(`notified ${payload}`),
      onListening: () => events.push('listening'),
      onLost: () => events.push('lost'),
    });
    const until = (event: string, times = 1) =>
      eventually(() => (events.filter((seen) => seen === event).length >= times ? true : undefined));
    return { listener, events, until };
  }

  const notify = (payload: string) => client.query('select pg_notify($1, $2)', ['Some "channel"', payload]);

  it('hears what is sent on its channel', async () => {
    const { listener, events, until } = record();
    await using _listener = listener;
    await until('listening');
    await notify('a');
    await notify('b');
    await until('notified b');
    expect(events).to.deep.equal(['listening', 'notified a', 'notified b']);
  });

  it('comes back after its connection was ended, and says so, that what was missed is looked for', async () => {
    const { listener, events, until } = record();
    await using _listener = listener;
    await until('listening');
    await client.query(`select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'obraz-listen' and datname = current_database()`);
    await until('listening', 2);
    await notify('after');
    await until('notified after');
    expect(events).to.deep.equal(['listening', 'lost', 'listening', 'notified after']);
  });

  it('keeps trying while the server is away', async () => {
    const { listener, events, until } = record({ url: 'postgres://nobody@127.0.0.1:1/none' });
    await until('lost', 3);
    await listener[Symbol.asyncDispose]();
    const { length } = events;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(events).to.have.length(length);
    expect(events).not.to.include('listening');
  });

  it('gives a connection up that shows no sign of life', async function () {
    // A proxy that can go silent as a cut cable does.
    const target = new URL(database.url);
    const socketPath = `${decodeURIComponent(target.hostname)}/.s.PGSQL.${target.port === '' ? 5432 : target.port}`;
    if (!socketPath.startsWith('/')) {
      console.warn('listen.spec.ts: the proxy of this test needs a PostgreSQL on a Unix socket');
      this.skip();
    }
    let isSilent = false;
    const sockets: Socket[] = [];
    const proxy = createServer((inside) => {
      const outside = connect(socketPath);
      sockets.push(inside, outside);
      for (const [from, to] of [
        [inside, outside],
        [outside, inside],
      ] as const) {
        from.on('data', (data) => isSilent || to.write(data));
        from.on('close', () => to.destroy());
        from.on('error', () => {});
      }
    });
    await once(proxy.listen(0, '127.0.0.1'), 'listening');
    try {
      target.hostname = '127.0.0.1';
      target.port = String((proxy.address() as { port: number }).port);
      target.search = '';
      const { listener, until } = record({ url: target.href, heartbeatMs: 50 });
      await using _listener = listener;
      await until('listening');
      isSilent = true;
      await until('lost');
      isSilent = false;
      await until('listening', 2);
    } finally {
      for (const socket of sockets) socket.destroy();
      proxy.close();
    }
  });

  it('ends soon after it is disposed of, whatever it is doing', async () => {
    const { listener, until, events } = record();
    await until('listening');
    await listener[Symbol.asyncDispose]();
    await notify('too late');
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(events).to.deep.equal(['listening']);
    await record().listener[Symbol.asyncDispose]();
  });
});
