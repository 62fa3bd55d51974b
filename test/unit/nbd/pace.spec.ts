import { expect } from 'chai';
import { Pace } from '../../../src/nbd/pace.ts';

const MiB = 1024 * 1024;

describe('The pace of an NBD connection', () => {
  it('is judged by what it held when the period began', () => {
    const pace = new Pace();
    expect(pace.slowForMs(1_000, 0, 0)).to.equal(0);
    expect(pace.slowForMs(50_000, 32 * MiB, 28)).to.equal(0);
    expect(pace.slowForMs(55_000, 32 * MiB, 29)).to.equal(5_000);
    expect(pace.slowForMs(80_000, 64 * MiB, 30)).to.equal(30_000);
  });

  it('is enough when a part of it moves, however slowly the whole', () => {
    const pace = new Pace();
    let nowMs = 0;
    pace.slowForMs(nowMs, 32 * MiB, 0);
    for (let moved = 0; moved <= 32 * MiB; moved += MiB / 2) {
      expect(pace.slowForMs(nowMs, 32 * MiB, moved)).to.be.at.most(20_000);
      nowMs += 5_000;
    }
  });

  it('does not matter when nothing is held', () => {
    const pace = new Pace();
    pace.slowForMs(0, MiB, 0);
    expect(pace.slowForMs(60_000, 0, 0)).to.equal(0);
    expect(pace.slowForMs(120_000, 0, 0)).to.equal(0);
    expect(pace.slowForMs(180_000, 8 * MiB, 28)).to.equal(0);
  });
});
