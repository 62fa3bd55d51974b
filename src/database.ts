// The database of the service, opened: embedded or given, brought to this version's schema, with what the first start makes.
import type { EntityManager, MikroORM } from '@mikro-orm/postgresql';
import type { Config } from './config.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from './db/embedded/embedded-postgres.ts';
import { migrate } from './db/migrate.ts';
import { createOrm } from './db/orm.ts';
import { entities } from './entities.ts';
import { bootstrap, type BootstrapIds } from './iam/bootstrap.ts';
import type { Log } from './platform/log.ts';

export interface Database extends AsyncDisposable {
  readonly orm: MikroORM;
  readonly url: string;
  readonly ids: BootstrapIds;
  /** An EntityManager outside of any transaction, with an identity map of its own. */
  fork(): EntityManager;
  /** Resolves when the embedded server has ended by itself; never for a given one. */
  readonly failed: Promise<Error>;
}

export async function openDatabase(config: Config, dataDirectory: string, log: Log, signal: AbortSignal): Promise<Database> {
  await using undo = new AsyncDisposableStack();
  let embedded: EmbeddedPostgres | undefined;
  if (config.databaseUrl === undefined) {
    const embeddedLog = { info: (text: string) => log.info(text), warn: (text: string) => log.warn(text) };
    embedded = undo.use(await startEmbeddedPostgres({ dataDir: dataDirectory, log: embeddedLog, signal }));
  }
  const url = config.databaseUrl ?? embedded!.url;
  const orm = await createOrm({ url, entities, poolSize: config.databasePoolSize });
  undo.defer(() => orm.close(true));
  await migrate(orm);
  const ids = await orm.em.fork().transactional((em) => bootstrap(em));
  const stack = undo.move();
  return {
    orm,
    url,
    ids,
    fork: () => orm.em.fork(),
    failed: embedded?.failed ?? new Promise(() => {}),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
