import { type EntitySchema, MikroORM, defineConfig } from '@mikro-orm/postgresql';
import { Migrator } from '@mikro-orm/migrations';

export interface OrmOptions {
  url: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- a list of schemas of different entities
  entities: EntitySchema<any, any>[];
  /** Connections that this process may open. */
  poolSize: number;
}

/** The ORM, not connected yet: the first query connects. Migrations lie in src/db/migrations. */
export const createOrm = (options: OrmOptions): Promise<MikroORM> =>
  MikroORM.init(
    defineConfig({
      clientUrl: options.url,
      entities: options.entities,
      forceUtcTimezone: true,
      pool: { min: 0, max: options.poolSize, idleTimeoutMillis: 60_000 },
      extensions: [Migrator],
      migrations: { path: `${import.meta.dirname}/migrations`, emit: 'ts', snapshot: false, silent: true },
    }),
  );
