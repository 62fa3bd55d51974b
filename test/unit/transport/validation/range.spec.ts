import { expect } from 'chai';
import { describeRange, isInside, parseRange, parseTimeRange } from '../../../../src/transport/validation/range.ts';

describe('A range of the validation options', () => {
  const cases: [string, { inside: (number | bigint)[]; outside: (number | bigint)[]; words: string }][] = [
    ['0-1000', { inside: [0, 0n, 1000n, 999.5], outside: [-1, 1001n, 1000.5, NaN], words: 'between 0 and 1000' }],
    ['-5--1', { inside: [-5n, -1], outside: [-6, 0], words: 'between -5 and -1' }],
    ['<=50', { inside: [-1, 0, 50n], outside: [51n, NaN], words: 'at most 50' }],
    ['<50', { inside: [49n], outside: [50n], words: 'less than 50' }],
    ['>0', { inside: [1n, 0.1], outside: [0n, -1, NaN], words: 'more than 0' }],
    ['>=1', { inside: [1n], outside: [0.9], words: 'at least 1' }],
    ['7', { inside: [7n, 7], outside: [6, 8n], words: 'exactly 7' }],
    ['0.5-1.5', { inside: [0.5, 1n], outside: [0.4, 2n], words: 'between 0.5 and 1.5' }],
    [
      '0-9223372036854775807',
      { inside: [2n ** 63n - 1n], outside: [2n ** 63n, 2 ** 63], words: 'between 0 and 9223372036854775807' },
    ],
  ];
  for (const [text, { inside, outside, words }] of cases) {
    it(`${text} means ${words}, exactly`, () => {
      const range = parseRange(text);
      expect(describeRange(range)).to.equal(words);
      for (const value of inside) expect(isInside(range, value), String(value)).to.equal(true);
      for (const value of outside) expect(isInside(range, value), String(value)).to.equal(false);
    });
  }

  it('of times counts in milliseconds, the last fraction included', () => {
    expect(parseTimeRange('19700101T000000.000000000-21051231T235959.999999999')).to.deep.equal({
      min: 0,
      max: Date.parse('2105-12-31T23:59:59.999Z'),
      exclusive: false,
    });
  });

  for (const text of ['', 'a', '1-', '<', '1-2-3', '=>1']) {
    it(`is not "${text}": a fault in a proto is not taken for a rule`, () => {
      expect(() => parseRange(text)).to.throw('is not a range');
    });
  }

  it('of times is not half a one', () => {
    expect(() => parseTimeRange('19700101T000000')).to.throw('is not a range of times');
    expect(() => parseTimeRange('19700101-21051231')).to.throw('is not a time');
  });
});
