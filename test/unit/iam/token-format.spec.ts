import { generateKeyPairSync, sign } from 'node:crypto';
import { expect } from 'chai';
import * as fc from 'fast-check';
import { maxTokenLength, readToken, type TokenClaims, writeToken } from '../../../src/iam/token-format.ts';

const publicPattern = /^t1\.[A-Z0-9a-z_-]+[=]{0,2}\.[A-Z0-9a-z_-]{86}[=]{0,2}$/;
const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

const own = generateKeyPairSync('ed25519');
const foreign = generateKeyPairSync('ed25519');

const claims: TokenClaims = {
  id: 'q83vEjRWeJCrze8SNFZ4kA',
  keyId: '1',
  subject: { id: 'aje00000000000000000', type: 'serviceAccount' },
  issuedAt: 1_800_000_000,
  expiresAt: 1_800_043_200,
};

const read = (token: string) => readToken(token, (id) => (id === '1' ? own.publicKey : undefined), own.publicKey);

const base64url = (text: string) => Buffer.from(text).toString('base64url');

/** A token around any claims text, signed with our key. */
function signed(claimsText: string): string {
  const head = `t1.${base64url(claimsText)}`;
  return `${head}.${sign(null, Buffer.from(head), own.privateKey).toString('base64url')}`;
}

describe('A token', () => {
  const token = writeToken(claims, own.privateKey);

  it('fits the public pattern and gives its claims back', () => {
    expect(token).to.match(publicPattern);
    expect(read(token)).to.deep.equal(claims);
    fc.assert(
      fc.property(
        fc.string({ maxLength: 50 }),
        fc.stringMatching(/^[a-z0-9]{1,50}$/),
        fc.maxSafeNat(),
        (id, subjectId, expiresAt) => {
          const other = { ...claims, id, expiresAt, subject: { id: subjectId, type: 'serviceAccount' } };
          expect(read(writeToken(other, own.privateKey))).to.deep.equal(other);
        },
      ),
    );
  });

  it('is refused when any one character of it is another', () => {
    for (let at = 0; at < token.length; at++) {
      for (const character of new Set([alphabet[(alphabet.indexOf(token[at]!) + 1) % 64]!, 'A', '=', '.', ' '])) {
        if (character !== token[at]) expect(read(token.slice(0, at) + character + token.slice(at + 1))).to.equal(undefined);
      }
    }
  });

  it('is refused in a second spelling: altered spare bits, padding, other base64, spaces, line ends', () => {
    const [, claimsText, signature] = token.split('.') as [string, string, string];
    const last = alphabet.indexOf(signature.at(-1)!);
    // 86 characters hold 516 bits: the last four say nothing.
    for (let spare = 1; spare < 16; spare++) {
      const respelt = `${token.slice(0, -1)}${alphabet[(last & ~15) | ((last + spare) & 15)]}`;
      expect(Buffer.from(respelt.slice(-86), 'base64url').equals(Buffer.from(signature, 'base64url'))).to.equal(true);
      expect(read(respelt)).to.equal(undefined);
    }
    for (const respelt of [`${token}=`, `${token}==`, `t1.${claimsText}=.${signature}`, ` ${token}`, `${token} `, `${token}\n`]) {
      expect(read(respelt)).to.equal(undefined);
    }
    expect(read(token.replaceAll('-', '+').replaceAll('_', '/').replace(/^/, 'x'))).to.equal(undefined);
    expect(read(token.replace('t1.', 'T1.'))).to.equal(undefined);
  });

  it('is refused when another key signed it, also under a key id that does not exist', () => {
    expect(read(writeToken(claims, foreign.privateKey))).to.equal(undefined);
    expect(read(writeToken({ ...claims, keyId: '2' }, own.privateKey))).to.equal(undefined);
    expect(read(writeToken({ ...claims, keyId: '2' }, foreign.privateKey))).to.equal(undefined);
    expect(read(writeToken({ ...claims, keyId: '__proto__' }, own.privateKey))).to.equal(undefined);
  });

  it('is refused when parts of two tokens are put together', () => {
    const other = writeToken({ ...claims, subject: { id: 'ajeother', type: 'serviceAccount' } }, own.privateKey);
    expect(read(`${other.slice(0, other.lastIndexOf('.'))}.${token.slice(-86)}`)).to.equal(undefined);
  });

  it('knows one algorithm: JSON Web Tokens of any kind are no tokens', () => {
    const payload = base64url(JSON.stringify({ jti: 'x', kid: '1', sub: 'x', typ: 'serviceAccount', iat: 1, exp: 2 ** 40 }));
    for (const alg of ['none', 'HS256', 'EdDSA', 'PS256']) {
      const header = base64url(JSON.stringify({ alg, kid: '1' }));
      for (const signature of ['', 'A'.repeat(86)]) {
        expect(read(`${header}.${payload}.${signature}`)).to.equal(undefined);
        expect(read(`t1.${payload}.${signature}`)).to.equal(undefined);
      }
    }
  });

  it('is refused when its claims are not what the service writes, though signed', () => {
    for (const text of [
      '',
      'null',
      '[]',
      '7',
      '"x"',
      '{',
      '{}',
      JSON.stringify({ jti: 'x', kid: '1', sub: 'x', typ: 'y', iat: '1', exp: 2 }),
    ]) {
      expect(read(signed(text))).to.equal(undefined);
    }
  });

  it('is bounded before it is parsed', () => {
    const long = signed(JSON.stringify({ jti: 'x'.repeat(maxTokenLength), kid: '1', sub: 'x', typ: 'y', iat: 1, exp: 2 }));
    expect(read(long)).to.equal(undefined);
    expect(read('t1.'.repeat(1_000_000))).to.equal(undefined);
    expect(() => writeToken({ ...claims, id: 'x'.repeat(maxTokenLength) }, own.privateKey)).to.throw(Error, /characters long/);
  });

  it('is never made of random text', () => {
    const part = fc.constantFrom('t1', '.', 'e30', 'A'.repeat(86), '{}', '=', '\0', 'ж');
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(part).map((parts) => parts.join('')),
        ),
        (text) => read(text) === undefined,
      ),
      { numRuns: 500 },
    );
  });
});
