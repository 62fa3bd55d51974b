import { expect } from 'chai';
import * as fc from 'fast-check';
import { parseResponseHead } from '../../../../src/sources/wire/response-head.ts';
import { WireError } from '../../../../src/sources/wire/wire-error.ts';

const head = (...lines: string[]) => parseResponseHead([...lines, '', ''].join('\r\n'));

describe('response head', () => {
  it('reads status and headers, names in any case and values without the space around them', () => {
    const { status, header, framing, keepsAlive } = head('HTTP/1.1 206 Partial Content', 'ETag: \t"a b" ', 'content-LENGTH:5');
    expect(status).to.equal(206);
    expect(header('etag')).to.equal('"a b"');
    expect(header('missing')).to.equal(undefined);
    expect(framing).to.deep.equal({ kind: 'length', lengthBytes: 5 });
    expect(keepsAlive).to.equal(true);
  });

  const framings: [lines: string[], framing: object, keepsAlive: boolean][] = [
    [['HTTP/1.1 200 OK', 'Content-Length: 0'], { kind: 'length', lengthBytes: 0 }, true],
    [['HTTP/1.1 200', 'Content-Length: 7', 'Content-Length: 7'], { kind: 'length', lengthBytes: 7 }, true],
    [['HTTP/1.1 200 OK', 'Content-Length: 7', 'Connection: Close'], { kind: 'length', lengthBytes: 7 }, false],
    [['HTTP/1.1 200 OK', 'Content-Length: 7', 'Connection: x, close , y'], { kind: 'length', lengthBytes: 7 }, false],
    [['HTTP/1.1 200 OK', 'Transfer-Encoding: Chunked'], { kind: 'chunked' }, true],
    [['HTTP/1.1 200 OK'], { kind: 'untilClose' }, false],
    [['HTTP/1.1 204 No Content'], { kind: 'length', lengthBytes: 0 }, true],
    [['HTTP/1.1 304 Not Modified', 'Content-Length: 99'], { kind: 'length', lengthBytes: 0 }, true],
    [['HTTP/1.0 200 OK', 'Content-Length: 7'], { kind: 'length', lengthBytes: 7 }, false],
    [['HTTP/1.0 200 OK', 'Content-Length: 7', 'Connection: Keep-Alive'], { kind: 'length', lengthBytes: 7 }, true],
  ];
  for (const [lines, framing, keepsAlive] of framings) {
    it(`frames ${lines.join(' | ')}`, () => expect(head(...lines)).to.deep.include({ framing, keepsAlive }));
  }

  const refused: [lines: string[], text: RegExp][] = [
    [['HTTP/2 200 OK'], /status line/],
    [['HTTP/1.1 2000 OK'], /status line/],
    [['HTTP/1.1  200 OK'], /status line/],
    [['HTTP/1.1 099 No'], /status line/],
    [['HTTP/1.1 200 OK\nX: y'], /status line/],
    [['ICY 200 OK'], /status line/],
    [['HTTP/1.1 200 OK', 'Content-Length: 5', 'Content-Length: 6'], /content-length is sent twice/],
    [['HTTP/1.1 200 OK', 'Content-Length: 5, 5'], /Content-Length is not a number/],
    [['HTTP/1.1 200 OK', 'Content-Length: -5'], /Content-Length is not a number/],
    [['HTTP/1.1 200 OK', 'Content-Length: +5'], /Content-Length is not a number/],
    [['HTTP/1.1 200 OK', 'Content-Length: 0x5'], /Content-Length is not a number/],
    [['HTTP/1.1 200 OK', 'Content-Length:'], /Content-Length is not a number/],
    [['HTTP/1.1 200 OK', 'Content-Length: 99999999999999999999'], /Content-Length is not a number/],
    [['HTTP/1.1 200 OK', 'Content-Length: 9999999999999999'], /Content-Length is too large/],
    [['HTTP/1.1 200 OK', 'Content-Length: 5', 'Transfer-Encoding: chunked'], /both Content-Length and Transfer-Encoding/],
    [['HTTP/1.1 200 OK', 'Transfer-Encoding: gzip, chunked'], /Transfer-Encoding is not/],
    [['HTTP/1.1 200 OK', 'Transfer-Encoding: chunked', 'Transfer-Encoding: identity'], /transfer-encoding is sent twice/],
    [['HTTP/1.0 200 OK', 'Transfer-Encoding: chunked'], /Transfer-Encoding is not/],
    [['HTTP/1.1 200 OK', 'X : y'], /header line/],
    [['HTTP/1.1 200 OK', 'X: a', ' folded'], /header line/],
    [['HTTP/1.1 200 OK', ': y'], /header line/],
    [['HTTP/1.1 200 OK', 'no colon'], /header line/],
    [['HTTP/1.1 200 OK', 'X: a\u0000b'], /control character/],
    [['HTTP/1.1 200 OK', 'X: a\nContent-Length: 1'], /control character/],
  ];
  for (const [lines, text] of refused) {
    it(`refuses ${JSON.stringify(lines.slice(-2).join(' | '))}`, () => {
      expect(() => head(...lines))
        .to.throw(WireError, text)
        .with.property('kind', 'malformed');
    });
  }

  it('refuses a header with two values when it is asked for it', () => {
    const { header } = head('HTTP/1.1 200 OK', 'ETag: "a"', 'ETag: "b"', 'X: same', 'X: same');
    expect(header('x')).to.equal('same');
    expect(() => header('etag')).to.throw(WireError, /etag is sent twice/);
  });

  it('answers or refuses any text, and never fails otherwise', () => {
    const line = fc.oneof(fc.string(), fc.constantFrom('Content-Length: 1', 'X:', 'Transfer-Encoding: chunked', ' a', '\n'));
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        try {
          head('HTTP/1.1 200 OK', ...lines);
        } catch (error) {
          expect(error).to.be.instanceOf(WireError);
        }
      }),
    );
  });
});
