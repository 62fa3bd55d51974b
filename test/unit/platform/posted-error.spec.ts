import { expect } from 'chai';
import { DomainError, invalidArgument, TransientError } from '../../../src/platform/errors.ts';
import { fromPosted, toPosted } from '../../../src/platform/posted-error.ts';

const travel = (error: unknown): Error => fromPosted(structuredClone(toPosted(error)));

describe('errors between threads', () => {
  it('stay what they are: the kind, the code, the text and the details', () => {
    const domain = invalidArgument('uri', 'is bad');
    expect(travel(domain)).to.be.instanceOf(DomainError).and.deep.include({ code: 'INVALID_ARGUMENT', message: domain.message });
    expect((travel(domain) as DomainError).details).to.deep.equal(domain.details);
    expect(travel(new TransientError('away')))
      .to.be.instanceOf(TransientError)
      .with.property('message', 'away');
    const bug = new RangeError('bug');
    expect(travel(bug)).to.not.be.instanceOf(DomainError);
    expect(travel(bug)).to.include({ message: 'bug', stack: bug.stack });
    expect(travel('text')).to.have.property('message', 'text');
  });
});
