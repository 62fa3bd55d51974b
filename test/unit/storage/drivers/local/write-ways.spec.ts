import { expect } from 'chai';
import { type Way, WriteWays } from '../../../../../src/storage/drivers/local/write-ways.ts';

const MiB = 1024 * 1024;

describe('The way of big objects to the disk', () => {
  /** How many of so many puts went each way, when they take so many milliseconds for a MiB. */
  function puts(ways: WriteWays, count: number, ms: Record<Way, number>): Record<Way, number> {
    const counts = { direct: 0, cached: 0 };
    for (let index = 0; index < count; index += 1) {
      const way = ways.next();
      counts[way] += 1;
      const sizeMiB = 1 + (index % 4);
      ways.took(way, sizeMiB * MiB, ms[way] * sizeMiB);
    }
    return counts;
  }

  it('is tried both ways at first', () => {
    expect(puts(new WriteWays(), 12, { direct: 1, cached: 100 })).to.deep.equal({ direct: 6, cached: 6 });
  });

  it('is the faster one then, and the other one now and then', () => {
    const ways = new WriteWays();
    puts(ways, 12, { direct: 20, cached: 10 });
    expect(puts(ways, 320, { direct: 20, cached: 10 })).to.deep.equal({ direct: 10, cached: 310 });
  });

  it('is direct unless the page cache is clearly faster', () => {
    const ways = new WriteWays();
    puts(ways, 12, { direct: 10, cached: 9 });
    expect(puts(ways, 320, { direct: 10, cached: 9 })).to.deep.equal({ direct: 310, cached: 10 });
  });

  it('changes with the disk', () => {
    const ways = new WriteWays();
    puts(ways, 100, { direct: 20, cached: 10 });
    puts(ways, 320, { direct: 10, cached: 40 });
    expect(puts(ways, 64, { direct: 10, cached: 40 }).direct).to.equal(62);
  });

  it('is not chosen for good by one put that was held up', () => {
    const ways = new WriteWays();
    puts(ways, 100, { direct: 10, cached: 9 });
    ways.took('direct', MiB, 60);
    expect(puts(ways, 320, { direct: 10, cached: 9 }).direct).to.be.above(250);
  });

  it('does not wait for what is under way', () => {
    const ways = new WriteWays();
    const chosen = Array.from({ length: 12 }, () => ways.next());
    expect(chosen.filter((way) => way === 'direct')).to.have.length(6);
    // Nothing has been heard of either: the one that costs less.
    expect(ways.next()).to.equal('direct');
  });
});
