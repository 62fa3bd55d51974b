import { expect } from 'chai';
import { Turns } from '../../../src/platform/turns.ts';

describe('Turns', () => {
  const settled = () => new Promise((resolve) => setImmediate(resolve));

  /** Who has a turn now. */
  function asking(turns: Turns) {
    const having: string[] = [];
    const given = new Map<string, Disposable>();
    return {
      having,
      ask(who: string, name: string, signal?: AbortSignal): Promise<void> {
        return turns.take(name, signal).then((turn) => {
          having.push(who);
          given.set(who, turn);
        });
      },
      end: (who: string) => given.get(who)![Symbol.dispose](),
    };
  }

  for (const atOnce of [1, 3]) {
    it(`lets ${atOnce} of one name have one at once, in the order of asking, and names do not wait for each other`, async () => {
      const { having, ask, end } = asking(new Turns(atOnce));
      const all = ['a1', 'a2', 'a3', 'a4', 'a5'].map((who) => ask(who, 'a'));
      all.push(ask('b1', 'b'));
      await settled();
      expect(having).to.have.members([...['a1', 'a2', 'a3', 'a4', 'a5'].slice(0, atOnce), 'b1']);
      for (const who of ['a1', 'a2', 'a3', 'a4', 'a5']) {
        await settled();
        end(who);
        // Once: a second end gives no one else a turn.
        end(who);
      }
      await Promise.all(all);
      expect(having.filter((who) => who !== 'b1')).to.deep.equal(['a1', 'a2', 'a3', 'a4', 'a5']);
    });
  }

  it('lets go of who does not want to wait any more', async () => {
    const { having, ask, end } = asking(new Turns());
    await ask('first', 'a');
    const controller = new AbortController();
    const second = ask('second', 'a', controller.signal).catch((error: unknown) => error);
    const third = ask('third', 'a');
    controller.abort(new Error('enough'));
    expect(await second)
      .to.be.an('error')
      .with.property('message', 'enough');
    end('first');
    await third;
    expect(having).to.deep.equal(['first', 'third']);
  });
});
