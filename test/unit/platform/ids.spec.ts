import { expect } from 'chai';
import { newId } from '../../../src/platform/ids.ts';

describe('newId', () => {
  it('gives 20 lower-case letters and digits with the prefix of the kind', () => {
    for (const [kind, prefix] of [
      ['image', 'fd8'],
      ['operation', 'fd8'],
      ['folder', 'b1g'],
      ['serviceAccount', 'aje'],
    ] as const) {
      expect(newId(kind)).to.match(new RegExp(`^${prefix}[0-9a-v]{17}$`));
    }
  });

  it('names disks after their zone', () => {
    expect(newId('disk', 'ru-central1-a')).to.match(/^fhm[0-9a-v]{17}$/);
    expect(newId('disk', 'somewhere')).to.match(/^epd[0-9a-v]{17}$/);
  });

  it('uses every character of its alphabet and repeats none of 20,000 ids', () => {
    const ids = new Set(Array.from({ length: 20_000 }, () => newId('image')));
    expect(ids.size).to.equal(20_000);
    expect(new Set([...ids].map((id) => id.slice(3)).join('')).size).to.equal(32);
  });
});
