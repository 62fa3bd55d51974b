// `npm run bench [name …]`: every figure is a ratio to a peer or a primitive of the same run, because absolutes do not travel.
import { benchApi } from './api.ts';
import { benchImport } from './import.ts';

const benches: Record<string, () => Promise<void>> = { api: benchApi, import: benchImport };

const names = process.argv.slice(2);
const unknown = names.filter((name) => !Object.hasOwn(benches, name));
if (unknown.length > 0) {
  console.error(`no such bench: ${unknown.join(', ')}; there are ${Object.keys(benches).join(', ')}`);
  process.exit(2);
}
for (const name of names.length > 0 ? names : Object.keys(benches)) {
  console.log(`\n== ${name}`);
  await benches[name]!();
}
