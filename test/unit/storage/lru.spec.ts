import { expect } from 'chai';
import * as fc from 'fast-check';
import { Lru } from '../../../src/storage/lru.ts';

describe('least recently used', () => {
  it('keeps what was used last, within its weight, as a list in order of use would', () => {
    const action = fc.record({
      kind: fc.constantFrom('get', 'set', 'delete'),
      key: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
      weight: fc.nat(12),
    });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 100 }), (actions) => {
        const forgotten: string[] = [];
        const lru = new Lru<{ weight: number }>(
          10,
          ({ weight }) => weight,
          (key) => forgotten.push(key),
        );
        let model: [key: string, weight: number][] = [];
        for (const { kind, key, weight } of actions) {
          const known = model.find(([name]) => name === key);
          if (kind === 'get') expect(lru.get(key)?.weight).to.equal(known?.[1]);
          model = model.filter((entry) => entry !== known);
          if (kind === 'get' && known !== undefined) model.push(known);
          if (kind === 'delete') lru.delete(key);
          if (kind === 'set') {
            lru.set(key, { weight });
            if (weight <= 10) model.push([key, weight]);
            while (model.reduce((sum, [, each]) => sum + each, 0) > 10) model.shift();
          }
          expect(lru.weight).to.equal(model.reduce((sum, [, each]) => sum + each, 0));
        }
        const kept = new Set(model.map(([key]) => key));
        for (const key of ['a', 'b', 'c', 'd', 'e']) expect(lru.get(key) !== undefined).to.equal(kept.has(key));
        expect(forgotten.length).to.be.at.most(actions.length);
      }),
    );
  });
});
