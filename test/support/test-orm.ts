// A fresh database with the tables of some entities, for unit tests.
import type { EntitySchema, MikroORM } from '@mikro-orm/postgresql';
import { createOrm } from '../../src/db/orm.ts';
import { testDatabase } from './postgres.ts';

export interface TestOrm extends AsyncDisposable {
  orm: MikroORM;
  url: string;
}

// oxlint-disable-next-line typescript/no-explicit-any -- a list of schemas of different entities
export async function testOrm(entities: EntitySchema<any, any>[]): Promise<TestOrm> {
  const { url, dispose } = await testDatabase();
  const orm = await createOrm({ url, entities, poolSize: 10 });
  await orm.schema.create();
  return {
    orm,
    url,
    async [Symbol.asyncDispose]() {
      await orm.close();
      await dispose();
    },
  };
}
