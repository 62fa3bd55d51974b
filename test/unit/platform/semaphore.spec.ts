import { expect } from 'chai';
import { Semaphore } from '../../../src/platform/semaphore.ts';

describe('Semaphore', () => {
  it('never lets more in than it has permits, and serves waiters in order', async () => {
    const semaphore = new Semaphore(2);
    const order: number[] = [];
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 10 }, async (_, index) => {
        const release = await semaphore.acquire();
        order.push(index);
        inside += 1;
        most = Math.max(most, inside);
        await new Promise((resolve) => setImmediate(resolve));
        inside -= 1;
        release();
      }),
    );
    expect(most).to.equal(2);
    expect(order).to.deep.equal([...order].sort((a, b) => a - b));
  });

  it('lets a waiter go with the reason when it is aborted, and keeps its permit for others', async () => {
    const semaphore = new Semaphore(1);
    const release = await semaphore.acquire();
    const controller = new AbortController();
    const aborted = semaphore.acquire(controller.signal);
    const reason = new Error('enough');
    controller.abort(reason);
    expect(await aborted.catch((error: unknown) => error)).to.equal(reason);
    release();
    (await semaphore.acquire())();
  });

  it('counts a release once, however often it is called', async () => {
    const semaphore = new Semaphore(1);
    const release = await semaphore.acquire();
    release();
    release();
    await semaphore.acquire();
    const second = semaphore.acquire(AbortSignal.timeout(20));
    expect(await second.catch((error: Error) => error.name)).to.equal('TimeoutError');
  });
});
