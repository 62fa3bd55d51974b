// Entity managers that tell a test of what goes through them, so that it can let something else happen just then.
import type { EntityManager } from '@mikro-orm/postgresql';

export interface ForkHooks {
  /** Runs before a transaction begins; it may wait. */
  before?: () => Promise<void>;
  /** After a transaction was committed; what it throws is what the caller learns. */
  after?: () => Promise<void>;
  /** After a statement outside of a transaction has been answered, and before the caller has the answer. */
  answered?: (sql: string) => Promise<void>;
}

/** `hooks` may be changed at any time. */
export const hookedFork = (fork: () => EntityManager, hooks: ForkHooks) => (): EntityManager => {
  const em = fork();
  const transactional = em.transactional.bind(em);
  em.transactional = (async (body: Parameters<typeof transactional>[0]) => {
    await hooks.before?.();
    const answer = await transactional(body);
    await hooks.after?.();
    return answer;
  }) as typeof em.transactional;
  const kysely = em.getKysely();
  const executeQuery = kysely.executeQuery.bind(kysely);
  const hooked = Object.create(kysely) as typeof kysely;
  hooked.executeQuery = (async (compiled: Parameters<typeof executeQuery>[0]) => {
    const result = await executeQuery(compiled);
    await hooks.answered?.((compiled as { sql: string }).sql);
    return result;
  }) as typeof kysely.executeQuery;
  em.getKysely = (() => hooked) as typeof em.getKysely;
  return em;
};
