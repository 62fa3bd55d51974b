import { expect } from 'chai';
import { QuickWrites } from '../../../../src/storage/overlay/quick-writes.ts';

describe('quick writes', () => {
  let nowMs: number;
  let writes: QuickWrites;

  beforeEach(() => {
    nowMs = 10_000;
    writes = new QuickWrites(() => nowMs);
  });

  const takes = (ms: number): number => writes.run(() => (nowMs += ms));

  it('go on while they are quick', () => {
    for (let count = 0; count < 100; count += 1) {
      expect(writes.areAllowed).to.equal(true);
      expect(takes(1)).to.equal(nowMs);
    }
  });

  it('pause after one that was held back, longer each time, a minute at most', () => {
    for (const pauseMs of [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
      takes(50);
      expect(writes.areAllowed).to.equal(false);
      nowMs += pauseMs - 1;
      expect(writes.areAllowed).to.equal(false);
      nowMs += 1;
      expect(writes.areAllowed).to.equal(true);
      takes(1);
    }
  });

  it('pause shortly again when the last that was held back is long ago', () => {
    for (let count = 0; count < 5; count += 1) {
      takes(50);
      nowMs += 60_000;
    }
    nowMs += 60_001;
    takes(50);
    nowMs += 1_000;
    expect(writes.areAllowed).to.equal(true);
  });

  it('pause after a slow one that failed, too', () => {
    const failing = (): never => {
      nowMs += 50;
      throw new Error('no space');
    };
    expect(() => writes.run(failing)).to.throw('no space');
    expect(writes.areAllowed).to.equal(false);
  });
});
