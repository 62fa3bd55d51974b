import type { MikroORM } from '@mikro-orm/postgresql';
import { StartError } from '../platform/start-error.ts';

/**
 * Brings the database to this version's schema. Processes that start together do it one after another: the lock is held by a session
 * of its own until the migrations have ended. @throws StartError when the database cannot be reached.
 */
export async function migrate(orm: MikroORM): Promise<void> {
  try {
    await orm.em.fork().transactional(async (em) => {
      // This session waits for other processes' migrations, and stands idle during its own: the usual bounds are not for it.
      await em.execute('set local statement_timeout = 0');
      await em.execute('set local idle_in_transaction_session_timeout = 0');
      await em.execute(`select pg_advisory_xact_lock(hashtextextended('migrations', 0))`);
      await orm.migrator.up();
    });
  } catch (error) {
    const code = (error as { code?: string }).code ?? '';
    // Connection failures: no server there, no such host, wrong password, no such database, no right to connect.
    if (/^(ECONN|ENOTFOUND|ENOENT|EAI_|ETIMEDOUT|28|3D000|08|57P)/.test(code)) {
      throw new StartError(`cannot use the database of DATABASE_URL: ${(error as Error).message}`, { cause: error });
    }
    throw error;
  }
}
