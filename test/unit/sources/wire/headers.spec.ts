import { expect } from 'chai';
import { parseContentRange, parseUnsatisfiedRange } from '../../../../src/sources/wire/content-range.ts';
import { parseRetryAfter } from '../../../../src/sources/wire/retry-after.ts';

describe('Content-Range', () => {
  it('is read with an exclusive end', () => {
    expect(parseContentRange('bytes 0-9/100')).to.deep.equal({ start: 0, end: 10, sizeBytes: 100 });
    expect(parseContentRange('BYTES 99-99/100')).to.deep.equal({ start: 99, end: 100, sizeBytes: 100 });
    expect(parseContentRange('bytes 5-9/*')).to.deep.equal({ start: 5, end: 10, sizeBytes: undefined });
  });

  for (const value of [
    undefined,
    '',
    'bytes */100',
    'bytes 9-5/100',
    'bytes 0-100/100',
    'bytes 0-9',
    'bytes=0-9/100',
    'items 0-9/100',
    'bytes -9/100',
    'bytes 0-9/99999999999999999',
    'bytes 0-9999999999999999/*',
  ]) {
    it(`is undefined for ${value}`, () => expect(parseContentRange(value)).to.equal(undefined));
  }

  it('of the answer 416 names the size', () => {
    expect(parseUnsatisfiedRange('bytes */0')).to.equal(0);
    expect(parseUnsatisfiedRange('bytes */123')).to.equal(123);
    for (const value of [undefined, '', '*/0', 'bytes 0-0/1', 'bytes */*'])
      expect(parseUnsatisfiedRange(value)).to.equal(undefined);
  });
});

describe('Retry-After', () => {
  const now = Date.parse('2024-05-05T05:05:05Z');
  const table: [value: string | undefined, delayMs: number | undefined][] = [
    [undefined, undefined],
    ['0', 0],
    ['120', 120_000],
    ['Sun, 05 May 2024 05:06:05 GMT', 60_000],
    ['Sun, 05 May 2024 05:04:05 GMT', 0],
    ['Sunday, 05-May-24 05:06:05 GMT', 60_000],
    ['-5', undefined],
    ['1.5', undefined],
    ['soon', undefined],
    ['', undefined],
    ['99999999999', undefined],
  ];
  for (const [value, delayMs] of table) {
    it(`"${value}" is ${delayMs} ms`, () => expect(parseRetryAfter(value, now)).to.equal(delayMs));
  }
});
