// What `npm test` runs of the full sets, and the seed that chooses it.

/** `npm run test:long` runs the full sets; `npm test` a sample of them. */
export const isLongRun = process.env['OBRAZ_TEST_LONG'] === '1';

/** Fixed by OBRAZ_TEST_SEED to repeat a run; printed where it is used. */
export const testSeed = Number(process.env['OBRAZ_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

/** Numbers in [0, 1) that depend on the seed alone (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A different selection for each seed, in the order of `all`. */
export function sampleOf<T>(all: readonly T[], count: number, seed: number): T[] {
  const random = randomFrom(seed);
  const chosen = new Set(
    all
      .map((_, index) => ({ index, key: random() }))
      .sort((a, b) => a.key - b.key)
      .slice(0, count)
      .map(({ index }) => index),
  );
  return all.filter((_, index) => chosen.has(index));
}

/** For a test that takes seconds. The few without which a suite says nothing stay with mocha's own `it`. */
export type SampledIt = (title: string, body: Mocha.AsyncFunc) => void;

/** For one suite: as many choices are made as it is called. With as many consecutive seeds as `of`, each of its tests has run. */
export function sampledIt({ of }: { of: number }): SampledIt {
  let turn = testSeed % of;
  return (title, body) => {
    turn += 1;
    if (isLongRun || turn % of === 0) it(title, body);
  };
}
