import { expect } from 'chai';
import { FairPlaces, type PlaceUser } from '../../../src/platform/fair-places.ts';
import { randomFrom, testSeed } from '../../support/sample.ts';

const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('FairPlaces', () => {
  it('gives a free place to the waiting user who has the fewest, and the last one to a user who has none', async () => {
    const places = new FairPlaces(4);
    const slow = places.user();
    const quick = places.user();
    const held = await Promise.all([1, 2, 3].map(() => slow.acquire()));
    const got: string[] = [];
    const ask = async (name: string, user: PlaceUser): Promise<void> => {
      const release = await user.acquire();
      got.push(name);
      await soon();
      release();
    };
    const waiting = ask('slow', slow);
    await soon();
    expect(got).to.deep.equal([]);
    await ask('quick', quick);
    await Promise.all([1, 2, 3].map(() => ask('quick', quick)));
    expect(got).to.deep.equal(['quick', 'quick', 'quick', 'quick']);
    held[0]!();
    await waiting;
    expect(got.at(-1)).to.equal('slow');
  });

  it('keeps the order of asking for one user, and gives back a place once', async () => {
    const user = new FairPlaces(2).user();
    const release = await user.acquire();
    const order: number[] = [];
    const waiting = [1, 2, 3].map(async (index) => {
      const end = await user.acquire();
      order.push(index);
      end();
      end();
    });
    await soon();
    expect(order).to.deep.equal([]);
    release();
    release();
    await Promise.all(waiting);
    expect(order).to.deep.equal([1, 2, 3]);
  });

  it(`never gives more places than there are, and loses none, whoever gives up (OBRAZ_TEST_SEED=${testSeed})`, async () => {
    const random = randomFrom(testSeed);
    const places = new FairPlaces(3);
    const users = [places.user(), places.user(), places.user()];
    let held = 0;
    const one = async (): Promise<void> => {
      const controller = new AbortController();
      if (random() < 0.3) setImmediate(() => controller.abort(new Error('gave up')));
      try {
        const release = await users[Math.floor(random() * 3)]!.acquire(controller.signal);
        held += 1;
        expect(held).to.be.at.most(3);
        for (let turns = random() * 3; turns > 0; turns -= 1) await soon();
        held -= 1;
        release();
      } catch (error) {
        expect(error).to.have.property('message', 'gave up');
      }
    };
    await Promise.all(Array.from({ length: 300 }, one));
    expect(held).to.equal(0);
    const all = await Promise.all(users.map((user) => user.acquire()));
    for (const release of all) release();
  });
});
