import { expect } from 'chai';
import { IndexBudget } from '../../../src/attach/index-budget.ts';

class Owner {
  /** Of the open generation, and of those that are sealed. */
  openIndexBytes: number;
  sealedBytes = 0;
  wanted = 0;

  constructor(openIndexBytes: number) {
    this.openIndexBytes = openIndexBytes;
  }

  get indexBytes(): number {
    return this.openIndexBytes + this.sealedBytes;
  }

  sealSoon(): void {
    this.wanted += 1;
  }

  seal(): void {
    this.sealedBytes += this.openIndexBytes;
    this.openIndexBytes = 0;
  }
}

describe('The memory for indexes of a process', () => {
  const owners = (budget: IndexBudget, ...sizes: number[]): Owner[] =>
    sizes.map((bytes) => {
      const owner = new Owner(bytes);
      budget.note(owner);
      return owner;
    });

  it('has the largest open indexes sealed when it is short, as many as it takes to have half of it again', () => {
    const budget = new IndexBudget({ maxBytes: 1000, smallBytes: 10 });
    const before = owners(budget, 100, 300, 50, 250);
    expect(before.map(({ wanted }) => wanted)).to.deep.equal([0, 0, 0, 0]);
    owners(budget, 60);
    expect(budget.usedBytes).to.equal(760);
    expect(before.map(({ wanted }) => wanted)).to.deep.equal([0, 1, 0, 0]);
    const many = new IndexBudget({ maxBytes: 1000, smallBytes: 10 });
    const sealed = owners(many, 200, 200, 200);
    for (const owner of sealed) owner.seal();
    // What is sealed already will be committed: nobody else need be.
    expect(owners(many, 300)[0]!.wanted).to.equal(0);
  });

  it('lets those wait who have much when it is used up, and nobody who has little', () => {
    const budget = new IndexBudget({ maxBytes: 1000, smallBytes: 10 });
    const [large, small] = owners(budget, 900, 10) as [Owner, Owner];
    expect(budget.isSpentFor(large)).to.equal(false);
    large.openIndexBytes = 991;
    budget.note(large);
    expect(budget.isSpent).to.equal(true);
    expect(budget.isSpentFor(large)).to.equal(true);
    expect(budget.isSpentFor(small)).to.equal(false);
    expect(budget.isSpentFor(new Owner(0))).to.equal(false);
  });

  it('tells those who wait when something came back, by a commit or because a writer has left', async () => {
    const budget = new IndexBudget({ maxBytes: 1000, smallBytes: 10 });
    const [first, second] = owners(budget, 800, 700) as [Owner, Owner];
    let { room } = budget;
    first.openIndexBytes = 0;
    budget.gaveBack(first);
    await room;
    expect(budget.usedBytes).to.equal(700);
    expect(budget.movedAtMs).to.be.greaterThan(0);
    ({ room } = budget);
    budget.remove(second);
    await room;
    expect(budget.usedBytes).to.equal(0);
  });
});
