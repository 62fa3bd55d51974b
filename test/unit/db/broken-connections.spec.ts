import { expect } from 'chai';
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../../../src/db/bound-query.ts';
import { createOrm } from '../../../src/db/orm.ts';
import { operationEntities } from '../../support/operations-kit.ts';
import { testDatabase } from '../../support/postgres.ts';

describe('The pool of connections', () => {
  it('is as large as before after connections broke in the middle of transactions', async () => {
    const database = await testDatabase();
    const orm = await createOrm({ url: database.url, entities: operationEntities, poolSize: 2 });
    try {
      const transaction = (body: (em: EntityManager) => Promise<unknown>) => (orm.em.fork() as EntityManager).transactional(body);
      for (let n = 0; n < 5; n += 1) {
        const broken = transaction((em) => query(em, 'select pg_terminate_backend(pg_backend_pid())'));
        expect(await broken.catch((error: Error) => error)).to.be.instanceOf(Error);
        // Also between two statements, where nobody notices before the next one.
        const idle = transaction(async (em) => {
          const [row] = await query<{ pid: number }>(em, 'select pg_backend_pid() as pid');
          await query(orm.em.fork() as EntityManager, 'select pg_terminate_backend($1, 5000)', [row!.pid]);
          await query(em, 'select 1');
        });
        expect(await idle.catch((error: Error) => error)).to.be.instanceOf(Error);
      }
      const both = [1, 2].map(() =>
        transaction(async (em) => {
          await query(em, 'select 1');
          await new Promise((resolve) => setTimeout(resolve, 10));
        }),
      );
      await Promise.all(both);
    } finally {
      await orm.close(true);
      await database.dispose();
    }
  });

  it('bounds statements, and transactions in which nothing happens', async () => {
    const database = await testDatabase();
    const orm = await createOrm({ url: database.url, entities: operationEntities, poolSize: 1 });
    try {
      const rows = await query<{ name: string; setting: string }>(
        orm.em.fork(),
        `select name, setting from pg_settings where name in ('statement_timeout', 'idle_in_transaction_session_timeout')`,
      );
      expect(rows).to.have.length(2);
      for (const { setting } of rows) expect(Number(setting)).to.be.within(1_000, 60_000);
    } finally {
      await orm.close(true);
      await database.dispose();
    }
  });
});
