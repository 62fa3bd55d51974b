// Statements whose values travel beside the text. em.execute() writes values into the text, so that they show in PostgreSQL's log when a
// statement fails, and in MikroORM's own; what may hold secrets (the payload of a job: signed URLs) goes this way.
import type { EntityManager, Kysely } from '@mikro-orm/postgresql';

type CompiledQuery<Row> = Exclude<Parameters<Kysely<unknown>['executeQuery']>[0], { compile(): unknown }> & { rows?: Row };

/**
 * Runs one statement with `$1` … as placeholders, in the transaction of `em` where there is one, and answers its rows. Arrays are
 * PostgreSQL arrays; JSON is passed as text; timestamps come back as text.
 */
export async function query<Row = unknown>(em: EntityManager, sql: string, parameters: readonly unknown[] = []): Promise<Row[]> {
  const compiled: CompiledQuery<Row> = {
    sql,
    parameters,
    query: { kind: 'RawNode', sqlFragments: [sql], parameters: [] },
    queryId: { queryId: '' },
  };
  const { rows } = await em.getKysely().executeQuery(compiled);
  return rows as Row[];
}
