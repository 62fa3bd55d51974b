import { expect } from 'chai';
import * as fc from 'fast-check';
import { type FilterValue, parseFilter } from '../../../../src/db/listing/filter.ts';
import { DomainError } from '../../../../src/platform/errors.ts';

const string = (text: string): FilterValue => ({ kind: 'string', text });

const accepted: [string, ReturnType<typeof parseFilter>][] = [
  ['', []],
  ['   ', []],
  ['name = "x"', [{ field: 'name', negated: false, values: [string('x')] }]],
  ['name="x"', [{ field: 'name', negated: false, values: [string('x')] }]],
  ["\tname\n!=  'x' ", [{ field: 'name', negated: true, values: [string('x')] }]],
  ['family in("a","b")', [{ field: 'family', negated: false, values: [string('a'), string('b')] }]],
  ['family Not   iN ( "a" )', [{ field: 'family', negated: true, values: [string('a')] }]],
  [
    'name="x"AND family = \'y\' and in IN ("z")',
    [
      { field: 'name', negated: false, values: [string('x')] },
      { field: 'family', negated: false, values: [string('y')] },
      { field: 'in', negated: false, values: [string('z')] },
    ],
  ],
  ['name = ""', [{ field: 'name', negated: false, values: [string('')] }]],
  [
    'size IN (1, -20)',
    [
      {
        field: 'size',
        negated: false,
        values: [
          { kind: 'integer', text: '1' },
          { kind: 'integer', text: '-20' },
        ],
      },
    ],
  ],
  [
    String.raw`name = "a\"b\\c\n\t\101\x41\xd0\xb6\u0436\U0001F600"`,
    [{ field: 'name', negated: false, values: [string('a"b\\c\n\tAAжж😀')] }],
  ],
  [String.raw`name = 'it\'s "quoted"'`, [{ field: 'name', negated: false, values: [string('it\'s "quoted"')] }]],
];

const refused: [string, RegExp][] = [
  ['name', /expected =, !=, IN or NOT IN, found the end \(character 5\)/],
  ['name =', /expected a value in quotes, found the end/],
  ['name = x', /expected a value in quotes, found x \(character 8\)/],
  ['= "x"', /expected a field name, found =/],
  ['name == "x"', /found =/],
  ['name = "x', /not closed by "/],
  ["name = 'x\\'", /not closed by '/],
  ['name = "x" AND', /expected a field name, found the end/],
  ['name = "x" OR name = "y"', /expected AND or the end, found OR/],
  ['name = "x" name = "y"', /expected AND or the end, found name \(character 12\)/],
  ['name IN "x"', /expected "\("/],
  ['name IN ()', /expected a value/],
  ['name IN ("x",)', /expected a value/],
  ['name IN ("x" "y")', /expected "," or "\)"/],
  ['name NOT ("x")', /expected IN/],
  ['name > "x"', /unexpected character ">"/],
  ['(name = "x")', /expected a field name/],
  [String.raw`name = "\q"`, /unknown escape \\q \(character 9\)/],
  [String.raw`name = "\xff"`, /do not make UTF-8/],
  [String.raw`name = "\777"`, /unknown escape/],
  [String.raw`name = "\ud800"`, /unknown escape/],
  [String.raw`name = "\U00110000"`, /unknown escape/],
  [String.raw`name = "\0"`, /NUL/],
  [`name = "${'x'.repeat(1000)}"`, /at most 1000 characters/],
];

describe('parseFilter', () => {
  for (const [filter, conditions] of accepted) {
    it(`reads ${filter}`, () => expect(parseFilter(filter)).to.deep.equal(conditions));
  }

  for (const [filter, message] of refused) {
    it(`refuses ${filter.slice(0, 60)}`, () => {
      expect(() => parseFilter(filter))
        .to.throw(DomainError, message)
        .with.deep.property('code', 'INVALID_ARGUMENT');
    });
  }

  it('counts characters, not UTF-16 units', () => {
    expect(parseFilter(`name = "${'😀'.repeat(991)}"`)).to.have.length(1);
  });

  it('either reads a text or refuses it as INVALID_ARGUMENT, whatever the text', () => {
    const piece = fc.constantFrom(
      'name',
      ' ',
      'AND',
      'IN',
      'NOT',
      '(',
      ')',
      ',',
      '=',
      '!=',
      '"',
      "'",
      '\\',
      'x',
      '7',
      '-',
      'ж',
      '\\x4',
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece).map((pieces) => pieces.join('')),
        ),
        (text) => {
          try {
            return Array.isArray(parseFilter(text));
          } catch (error) {
            return error instanceof DomainError && error.code === 'INVALID_ARGUMENT';
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('gives back every string that is quoted with escapes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 100 }), fc.constantFrom('"', "'"), (text, quote) => {
        fc.pre(!text.includes('\0') && text.isWellFormed());
        const quoted = quote + text.replaceAll('\\', '\\\\').replaceAll(quote, `\\${quote}`) + quote;
        const [condition] = parseFilter(`name = ${quoted}`);
        return condition!.values[0]!.text === text;
      }),
    );
  });
});
