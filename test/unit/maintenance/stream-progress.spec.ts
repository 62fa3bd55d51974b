import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { streamProgress } from '../../../src/maintenance/stream-progress.ts';
import { errorOf } from '../../contract/blob-store.contract.ts';

describe('work as a stream of progress', () => {
  const never = new AbortController().signal;

  async function readAll<Progress, Result>(stream: AsyncGenerator<Progress, Result>) {
    const told: Progress[] = [];
    while (true) {
      const next = await stream.next();
      if (next.done === true) return { told, result: next.value };
      told.push(next.value);
    }
  }

  it('tells the latest and not all, then answers the result', async () => {
    const work = async (tell: (progress: number) => void) => {
      for (let step = 0; step < 1000; step += 1) tell(step);
      await sleep(700);
      return 'done';
    };
    const { told, result } = await readAll(streamProgress(work, never));
    expect(told).to.deep.equal([999]);
    expect(result).to.equal('done');
  });

  it('throws what the work throws', async () => {
    const broken = new Error('broken');
    expect(await errorOf(readAll(streamProgress(() => Promise.reject(broken), never)))).to.equal(broken);
  });

  for (const way of ['the reader leaves', 'the call ends'] as const)
    it(`ends the work when ${way}, and waits for its end`, async () => {
      const call = new AbortController();
      let hasEnded = false;
      const stream = streamProgress<number, void>(async (tell, signal) => {
        tell(1);
        await sleep(60_000, undefined, { signal }).catch(() => {});
        hasEnded = true;
        signal.throwIfAborted();
      }, call.signal);
      expect(await stream.next()).to.deep.equal({ done: false, value: 1 });
      if (way === 'the reader leaves') await stream.return();
      else {
        call.abort(new Error('gone'));
        expect(await errorOf(stream.next())).to.have.property('message', 'gone');
      }
      expect(hasEnded).to.equal(true);
    });
});
