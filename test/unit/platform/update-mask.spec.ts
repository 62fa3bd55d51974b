import { expect } from 'chai';
import type { DomainError } from '../../../src/platform/errors.ts';
import { parseUpdateMask } from '../../../src/platform/update-mask.ts';

const updatable = ['name', 'labels'] as const;

describe('parseUpdateMask', () => {
  it('means all fields when there is no mask, or an empty one', () => {
    for (const paths of [undefined, []]) expect([...parseUpdateMask(paths, updatable)]).to.deep.equal(['name', 'labels']);
  });

  it('means the fields that it names', () => {
    expect([...parseUpdateMask(['labels', 'labels'], updatable)]).to.deep.equal(['labels']);
  });

  it('refuses every path that cannot be updated, at once', () => {
    try {
      parseUpdateMask(['name', 'family', 'labels.a', ''], updatable);
      expect.fail('was accepted');
    } catch (error) {
      const { code, details } = error as DomainError;
      expect(code).to.equal('INVALID_ARGUMENT');
      expect(details[0]).to.have.property('violations').with.length(3);
    }
  });
});
