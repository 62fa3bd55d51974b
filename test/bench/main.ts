// `npm run bench [-- name [choice …] …]`: every figure is a ratio to a peer or a primitive of the same run, because absolutes do not travel.
import { benchApi } from './api.ts';
import { benchDisks } from './disks.ts';
import { benchFold } from './fold.ts';
import { benchImport } from './import.ts';
import { benchNbd } from './nbd.ts';
import { benchOverlay } from './overlay.ts';
import { benchSources } from './sources.ts';
import { benchStorage } from './storage.ts';
import { benchTokens } from './tokens.ts';

/** Each is given what stands behind its name on the command line, up to the next name. */
const benches: Record<string, (choice: readonly string[]) => Promise<void>> = {
  api: benchApi,
  disks: benchDisks,
  fold: benchFold,
  import: benchImport,
  nbd: benchNbd,
  overlay: benchOverlay,
  sources: benchSources,
  storage: benchStorage,
  tokens: benchTokens,
};

const chosen = new Map<string, string[]>();
for (const word of process.argv.slice(2)) {
  const [name] = [...chosen.keys()].slice(-1);
  if (Object.hasOwn(benches, word)) chosen.set(word, []);
  else if (name !== undefined) chosen.get(name)!.push(word);
  else {
    console.error(`no such bench: ${word}; there are ${Object.keys(benches).join(', ')}`);
    process.exit(2);
  }
}
for (const [name, choice] of chosen.size > 0 ? chosen : new Map(Object.keys(benches).map((each) => [each, []]))) {
  console.log(`\n== ${name}`);
  await benches[name]!(choice);
}
