import { expect } from 'chai';
import { assert, constantFrom, dictionary, jsonValue, nat, property, string } from 'fast-check';
import { changeBounds, type JsonObject, masked, maskedText, refusalBounds } from '../../../src/audit/masking.ts';

describe('What of a request stands in an event', () => {
  const uriOf = (uri: string): unknown => masked({ uri }, changeBounds)['uri'];

  for (const [uri, shown] of [
    ['https://h.test/a.img', 'https://h.test/a.img'],
    ['https://h.test/a.img?X-Amz-Signature=s', 'https://h.test/a.img?[query]'],
    ['https://h.test/a.img?sig=s#sha256=00ff', 'https://h.test/a.img?[query]#sha256=00ff'],
    ['https://user:pass@h.test/a', 'https://[secret]@h.test/a'],
    ['HTTPS://user:p@ss@h.test/a?b', 'HTTPS://[secret]@h.test/a?[query]'],
    ['https:/user:pass@h.test?sig=s', 'https:/[secret]@h.test?[query]'],
    ['user:pass@h.test?sig=s', '[secret]@h.test?[query]'],
  ] as const) {
    it(`a URI without its secrets: ${shown}`, () => expect(uriOf(uri)).to.equal(shown));
  }

  it('never what has the name of a secret, however deep it lies', () => {
    const secrets = ['jwt', 'iamToken', 'iam_token', 'yandexPassportOauthToken', 'privateKey', 'private_key', 'ticket', 'uris'];
    const request = Object.fromEntries(secrets.map((name) => [name, 'tell-nobody']));
    const shown = JSON.stringify(masked({ ...request, in: { deep: [request] } }, changeBounds));
    expect(shown).to.not.include('tell-nobody');
  });

  it('a thousand access bindings whole, and of what strangers send little', () => {
    const accessBindings = Array.from({ length: 1000 }, (_, index) => ({
      roleId: 'compute.images.user',
      subject: { id: `aje${index}`.padEnd(20, '0'), type: 'serviceAccount' },
    }));
    expect(masked({ accessBindings }, changeBounds)).to.deep.equal({ accessBindings });
    expect(JSON.stringify(masked({ accessBindings }, refusalBounds))).to.have.length.below(refusalBounds.characters);
    const large = { labels: Object.fromEntries(Array.from({ length: 64 }, (_, at) => [`k${at}`, 'x'.repeat(1000)])) };
    expect(masked(large, refusalBounds)).to.deep.equal({ truncated: true });
  });

  it('whatever it is, bounded and such that PostgreSQL takes it as JSON', () => {
    assert(
      property(dictionary(string({ unit: 'binary' }), jsonValue()), (request) => {
        const text = JSON.stringify(masked(request as JsonObject, refusalBounds));
        expect(text).to.have.length.at.most(refusalBounds.characters);
        expect(text).to.not.match(/\\u0000|\\ud[89a-f]/);
      }),
    );
    const cutAnywhere = property(
      constantFrom(undefined, 100),
      nat(3),
      constantFrom('\u{1f4be}', '\0', '\ud800'),
      (most, at, unit) => {
        const shown = maskedText(`${'x'.repeat(at)}${unit.repeat(6_000)}`, most);
        expect(shown.isWellFormed() && !shown.includes('\0')).to.equal(true);
        expect(shown).to.have.length.at.most((most ?? 2_048) + 1);
      },
    );
    assert(cutAnywhere);
    expect(maskedText('half of a pair: \ud800, nothing: \0')).to.equal('half of a pair: \ufffd, nothing: \ufffd');
  });
});
