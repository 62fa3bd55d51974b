import { expect } from 'chai';
import * as fc from 'fast-check';
import { decodePageToken, encodePageToken } from '../../../../src/db/listing/page-token.ts';
import { DomainError } from '../../../../src/platform/errors.ts';

const key = fc.stringMatching(/^[-a-z0-9]{1,20}$/);
const sort = fc.stringMatching(/^[-_a-z0-9]{0,63}$/);

describe('Page tokens', () => {
  it('hold a key of 20 characters and a name of 63 in at most 100 characters, and give them back', () => {
    const longest = encodePageToken('query', { key: 'k'.repeat(20), sort: 'n'.repeat(63) });
    expect(longest.length).to.be.at.most(100);
    fc.assert(
      fc.property(key, sort, (k, s) => {
        expect(decodePageToken('q', encodePageToken('q', { key: k, sort: s }), true)).to.deep.equal({ key: k, sort: s });
        expect(decodePageToken('q', encodePageToken('q', { key: k }), false)).to.deep.equal({ key: k });
      }),
    );
  });

  it('are refused for another query, when one character is changed, and when they are cut', () => {
    const token = encodePageToken('query', { key: 'fd8abc', sort: 'name' });
    const refuses = (query: string, text: string) =>
      expect(() => decodePageToken(query, text, true)).to.throw(DomainError, /^page_token: is not a token of this query/);
    refuses('another', token);
    for (let at = 0; at < token.length; at++) {
      refuses('query', token.slice(0, at));
      refuses('query', `${token.slice(0, at)}${token[at] === 'x' ? 'y' : 'x'}${token.slice(at + 1)}`);
    }
    refuses('query', `${token}x`);
    refuses('query', 'x'.repeat(10_000));
  });

  it('are never made from what they cannot hold', () => {
    expect(() => encodePageToken('q', { key: 'k', sort: 'n'.repeat(90) })).to.throw(Error, /cannot hold/);
    expect(() => encodePageToken('q', { key: 'a.b' })).to.throw(Error, /cannot hold/);
  });
});
