// Tests that take seconds each: `npm run test:long` runs all of them, `npm test` one of `of`, others with another seed. The few without
// which a suite says nothing stay with mocha's own `it`.
import { isLongRun, testSeed } from './images.ts';

export type SampledIt = (title: string, body: Mocha.AsyncFunc) => void;

/** For one suite: as many choices are made as it is called. With as many consecutive seeds as `of`, each of its tests has run. */
export function sampledIt({ of }: { of: number }): SampledIt {
  let turn = testSeed % of;
  return (title, body) => {
    turn += 1;
    if (isLongRun || turn % of === 0) it(title, body);
  };
}
