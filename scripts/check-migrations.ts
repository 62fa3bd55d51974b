// Entities and migrations agree: a fresh database brought up by the migrations has exactly the schema that the entities ask for.
// `node scripts/check-migrations.ts --create <name>` writes the migration that is missing.
import { createOrm } from '../src/db/orm.ts';
import { entities } from '../src/entities.ts';
import { stopTestCluster, testDatabase } from '../test/support/postgres.ts';

const database = await testDatabase();
const orm = await createOrm({ url: database.url, entities, poolSize: 2 });
try {
  await orm.migrator.up();
  if (process.argv[2] === '--create') {
    const name = process.argv[3];
    if (name === undefined) throw new Error('give the migration a name: --create <name>');
    const { fileName } = await orm.migrator.create(undefined, false, false, name);
    console.log(`wrote src/db/migrations/${fileName}`);
  } else {
    const missing = await orm.schema.getUpdateSchemaSQL({ wrap: false });
    if (missing.trim() !== '') {
      console.error(`entities and migrations disagree; a migration lacks:\n${missing}`);
      process.exitCode = 1;
    }
  }
} finally {
  await orm.close(true);
  await database.dispose();
  await stopTestCluster();
}
