import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect } from 'chai';
import * as fc from 'fast-check';
import { coalesce } from '../../../src/platform/coalesce.ts';
import { testSeed } from '../../support/sample.ts';

/** A loader that answers `value of <key>` for every key but `none`, when it is told to. */
function heldLoader() {
  const loads: { keys: string[]; finish: () => void; fail: (error: Error) => void }[] = [];
  const load = (keys: string[]): Promise<Map<string, string>> =>
    new Promise((resolve, reject) => {
      const values = keys.filter((key) => key !== 'none').map((key) => [key, `value of ${key}`] as const);
      loads.push({ keys, finish: () => resolve(new Map(values)), fail: reject });
    });
  return { load, loads };
}

describe('coalesce', () => {
  it('asks once for all keys of one turn of the event loop, each key once', async () => {
    const { load, loads } = heldLoader();
    const find = coalesce(load, { maxBatch: 100 });
    const answers = Promise.all([find('a'), find('b'), Promise.resolve().then(() => find('a')), find('none')]);
    await nextTurn();
    expect(loads.map(({ keys }) => keys)).to.deep.equal([['a', 'b', 'none']]);
    loads[0]!.finish();
    expect(await answers).to.deep.equal(['value of a', 'value of b', 'value of a', undefined]);
  });

  it('never lets a key join a query that was already sent', async () => {
    const { load, loads } = heldLoader();
    const find = coalesce(load, { maxBatch: 100 });
    const first = find('a');
    await nextTurn();
    const second = find('a');
    await nextTurn();
    expect(loads.map(({ keys }) => keys)).to.deep.equal([['a'], ['a']]);
    for (const { finish } of loads) finish();
    expect(await Promise.all([first, second])).to.deep.equal(['value of a', 'value of a']);
  });

  it('gives an error to everyone who waited for that query, and to nobody else', async () => {
    const { load, loads } = heldLoader();
    const find = coalesce(load, { maxBatch: 2 });
    const outcomes = Promise.allSettled([find('a'), find('b'), find('c')]);
    await nextTurn();
    const failure = new Error('the database is away');
    loads[0]!.fail(failure);
    loads[1]!.finish();
    expect(await outcomes).to.deep.equal([
      { status: 'rejected', reason: failure },
      { status: 'rejected', reason: failure },
      { status: 'fulfilled', value: 'value of c' },
    ]);
    const again = find('a');
    await nextTurn();
    loads[2]!.finish();
    expect(await again).to.equal('value of a');
  });

  it('passes on what a loader throws before it has made a promise', async () => {
    const failure = new Error('broken');
    const find = coalesce<string, string>(
      () => {
        throw failure;
      },
      { maxBatch: 10 },
    );
    expect(await find('a').catch((error: unknown) => error)).to.equal(failure);
  });

  it('lets keys wait and share the next query when as many as allowed are in flight', async () => {
    const { load, loads } = heldLoader();
    const find = coalesce(load, { maxBatch: 100, maxInFlight: 1 });
    const answers = [find('a')];
    await nextTurn();
    for (const key of ['b', 'c', 'b']) {
      answers.push(find(key));
      await nextTurn();
    }
    expect(loads.length).to.equal(1);
    loads[0]!.finish();
    await answers[0];
    await nextTurn();
    expect(loads[1]!.keys).to.deep.equal(['b', 'c']);
    loads[1]!.finish();
    expect(await Promise.all(answers)).to.deep.equal(['value of a', 'value of b', 'value of c', 'value of b']);
  });

  it(`answers every key with its own value and keeps to its bounds, whatever the arrivals (OBRAZ_TEST_SEED=${testSeed})`, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 12 }), { maxLength: 12 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 3 }),
        async (turns, maxBatch, maxInFlight) => {
          let inFlight = 0;
          const find = coalesce(
            async (keys: number[]) => {
              inFlight += 1;
              expect(keys.length).to.be.within(1, maxBatch);
              expect(new Set(keys).size).to.equal(keys.length);
              expect(inFlight).to.be.at.most(maxInFlight);
              await nextTurn();
              inFlight -= 1;
              return new Map(keys.filter((key) => key % 3 !== 0).map((key) => [key, key * 2]));
            },
            { maxBatch, maxInFlight },
          );
          const answers: Promise<void>[] = [];
          for (const keys of turns) {
            for (const key of keys) {
              answers.push(find(key).then((value) => expect(value).to.equal(key % 3 === 0 ? undefined : key * 2)) as never);
            }
            await nextTurn();
          }
          await Promise.all(answers);
        },
      ),
      { seed: testSeed },
    );
  });
});
