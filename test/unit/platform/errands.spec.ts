import { setImmediate as turn } from 'node:timers/promises';
import { expect } from 'chai';
import { Errands } from '../../../src/platform/errands.ts';

describe('Errands', () => {
  it('run at once up to their bound, each name once, and again when it has ended', async () => {
    const errands = new Errands(2);
    const begun: string[] = [];
    const ends = new Map<string, () => void>();
    const begin = (name: string): void =>
      errands.begin(name, () => {
        begun.push(name);
        const { promise, resolve } = Promise.withResolvers<void>();
        ends.set(name, resolve);
        return promise;
      });
    for (const name of ['a', 'b', 'c', 'a', 'c']) begin(name);
    await turn();
    expect(begun).to.deep.equal(['a', 'b']);
    ends.get('b')!();
    await turn();
    expect(begun).to.deep.equal(['a', 'b', 'c']);
    begin('b');
    begin('a');
    ends.get('a')!();
    await turn();
    expect(begun).to.deep.equal(['a', 'b', 'c', 'b']);
    let isOver = false;
    const ended = errands.ended().then(() => (isOver = true));
    ends.get('c')!();
    await turn();
    expect(isOver).to.equal(false);
    ends.get('b')!();
    await ended;
  });
});
