// Rules of every kind that the options can state, also those that no field of ours has today: over a message type made here.
import { type Message, create, createFileRegistry, setExtension } from '@bufbuild/protobuf';
import {
  type FieldDescriptorProto,
  FieldDescriptorProtoSchema,
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
  type FieldOptions,
  FieldOptionsSchema,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from '@bufbuild/protobuf/wkt';
import { expect } from 'chai';
import { loadDescriptors } from '../../../../src/transport/descriptors.ts';
import { messageCompiler } from '../../../../src/transport/validation/message.ts';

const descriptors = loadDescriptors();

interface TestField {
  type: Type;
  repeated?: boolean;
  typeName?: string;
  rules?: Record<string, unknown>;
}

/** What is wrong with `value` in a message whose one field, `the_field`, is declared so. */
function violationsOf(field: TestField, value: unknown): string[] {
  const options: FieldOptions = create(FieldOptionsSchema);
  for (const [name, rule] of Object.entries(field.rules ?? {})) {
    const extension = descriptors.registry.getExtension(`yandex.cloud.${name}`)!;
    setExtension(
      options,
      extension,
      extension.message === undefined ? rule : create(extension.message, rule as Partial<Message>),
    );
  }
  const declared: FieldDescriptorProto = create(FieldDescriptorProtoSchema, {
    name: 'the_field',
    number: 1,
    type: field.type,
    label: field.repeated === true ? Label.REPEATED : Label.OPTIONAL,
    options,
    ...(field.typeName === undefined ? {} : { typeName: field.typeName }),
  });
  const file = create(FileDescriptorProtoSchema, {
    name: 'test.proto',
    package: 'test',
    syntax: 'proto3',
    dependency: [
      'yandex/cloud/validation.proto',
      'yandex/cloud/access/access.proto',
      'google/protobuf/timestamp.proto',
      'google/protobuf/wrappers.proto',
    ],
    messageType: [
      { name: 'Test', field: [declared] },
      {
        name: 'Nested',
        field: [
          create(FieldDescriptorProtoSchema, {
            name: 'inner',
            number: 1,
            type: Type.MESSAGE,
            typeName: '.test.Nested',
            label: Label.OPTIONAL,
          }),
          create(FieldDescriptorProtoSchema, { name: 'text', number: 2, type: Type.STRING, label: Label.OPTIONAL }),
        ],
      },
    ],
  });
  const known = new Map([...descriptors.set.file, file].map((each) => [each.name, each]));
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: [...known.values()] }));
  const violations: { field: string; description: string }[] = [];
  messageCompiler(registry)(registry.getMessage('test.Test')!)({ theField: value }, '', violations);
  return violations.map((violation) => `${violation.field}: ${violation.description}`);
}

interface Case {
  name: string;
  field: TestField;
  good: unknown[];
  bad: [unknown, string][];
}

const string = (rules: Record<string, unknown> = {}): TestField => ({ type: Type.STRING, rules });
const strings = (rules: Record<string, unknown> = {}): TestField => ({ type: Type.STRING, repeated: true, rules });

const cases: Case[] = [
  {
    name: 'any string',
    field: string(),
    good: ['', 'текст', '😀', '\u{10ffff}', '\n\t'],
    bad: [
      ['a\0b', 'the_field: must not contain NUL characters'],
      ['\udfffa', 'the_field: must be valid UTF-8'],
      ['a\ud800', 'the_field: must be valid UTF-8'],
    ],
  },
  { name: 'a required string', field: string({ required: true }), good: ['a'], bad: [['', 'the_field: must be given']] },
  { name: 'a string with required = false', field: string({ required: false }), good: ['', 'a'], bad: [] },
  {
    name: 'a length, counted in characters',
    field: string({ length: '<=3' }),
    good: ['', 'abc', '😀😀😀', '日本語'],
    bad: [
      ['abcd', 'the_field: must have at most 3 characters, has 4'],
      ['😀😀😀😀', 'the_field: must have at most 3 characters, has 4'],
    ],
  },
  {
    name: 'a length with two ends',
    field: string({ length: '2-3' }),
    good: ['', 'ab', '😀😀'],
    bad: [
      ['a', 'the_field: must have between 2 and 3 characters, has 1'],
      ['😀', 'the_field: must have between 2 and 3 characters, has 1'],
    ],
  },
  {
    name: 'a length below a bound',
    field: string({ length: '<3' }),
    good: ['ab'],
    bad: [['abc', 'the_field: must have less than 3 characters, has 3']],
  },
  {
    name: 'a pattern, for the whole string',
    field: string({ pattern: '[a-z]+|x1' }),
    good: ['', 'abc', 'x1'],
    bad: [
      ['abcX', 'the_field: "abcX" does not match [a-z]+|x1'],
      ['Xabc', 'the_field: "Xabc" does not match [a-z]+|x1'],
      ['abc\n', 'the_field: "abc\\n" does not match [a-z]+|x1'],
      ['A'.repeat(500), `the_field: "${'A'.repeat(40)}…" does not match [a-z]+|x1`],
    ],
  },
  {
    name: 'a choice of strings',
    field: string({ value: 'red|green' }),
    good: ['', 'red', 'green'],
    bad: [['blue', 'the_field: must be one of red, green, is "blue"']],
  },
  {
    name: 'a range of int64',
    field: { type: Type.INT64, rules: { value: '10-20' } },
    good: [0n, 10n, 20n],
    bad: [
      [9n, 'the_field: must be between 10 and 20, is 9'],
      [-1n, 'the_field: must be between 10 and 20, is -1'],
    ],
  },
  {
    name: 'a range of int32',
    field: { type: Type.INT32, rules: { value: '>0' } },
    good: [0, 1],
    bad: [[-1, 'the_field: must be more than 0, is -1']],
  },
  {
    name: 'a range of double',
    field: { type: Type.DOUBLE, rules: { value: '0-1' } },
    good: [0, 0.5, 1],
    bad: [
      [1.5, 'the_field: must be between 0 and 1, is 1.5'],
      [NaN, 'the_field: must be between 0 and 1, is NaN'],
      [Infinity, 'the_field: must be between 0 and 1, is Infinity'],
    ],
  },
  {
    name: 'a required int64',
    field: { type: Type.INT64, rules: { required: true } },
    good: [1n, -1n],
    bad: [[0n, 'the_field: must be given']],
  },
  {
    name: 'a required bool',
    field: { type: Type.BOOL, rules: { required: true } },
    good: [true],
    bad: [[false, 'the_field: must be given']],
  },
  {
    name: 'a number of bytes',
    field: { type: Type.BYTES, rules: { bytes: '2-3' } },
    good: [new Uint8Array(0), new Uint8Array(2)],
    bad: [[new Uint8Array(4), 'the_field: must have between 2 and 3 bytes, has 4']],
  },
  {
    name: 'an enum',
    field: { type: Type.ENUM, typeName: '.yandex.cloud.access.AccessBindingAction' },
    good: [0, 1, 2],
    bad: [
      [3, 'the_field: must be one of ACCESS_BINDING_ACTION_UNSPECIFIED, ADD, REMOVE, is 3'],
      [-1, 'the_field: must be one of ACCESS_BINDING_ACTION_UNSPECIFIED, ADD, REMOVE, is -1'],
    ],
  },
  {
    name: 'a required choice of an enum',
    field: { type: Type.ENUM, typeName: '.yandex.cloud.access.AccessBindingAction', rules: { value: 'ADD', required: true } },
    good: [1],
    bad: [
      [0, 'the_field: must be given'],
      [2, 'the_field: must be one of ADD, is 2'],
    ],
  },
  {
    name: 'a list of enums',
    field: { type: Type.ENUM, repeated: true, typeName: '.yandex.cloud.access.AccessBindingAction' },
    good: [[1, 2]],
    bad: [[[1, 9], 'the_field[1]: must be one of ACCESS_BINDING_ACTION_UNSPECIFIED, ADD, REMOVE, is 9']],
  },
  {
    name: 'a size of a list',
    field: strings({ size: '2-3' }),
    good: [[], ['a', 'b']],
    bad: [
      [['a'], 'the_field: must have between 2 and 3 elements, has 1'],
      [['a', 'b', 'c', 'd'], 'the_field: must have between 2 and 3 elements, has 4'],
    ],
  },
  {
    name: 'a required list',
    field: strings({ required: true, size: '<=2' }),
    good: [['']],
    bad: [[[], 'the_field: must be given']],
  },
  {
    name: 'rules of elements',
    field: strings({ length: '<=3', pattern: '[a-z]*' }),
    good: [['abc', '']],
    bad: [
      [['a', 'abcd'], 'the_field[1]: must have at most 3 characters, has 4'],
      [['A'], 'the_field[0]: "A" does not match [a-z]*'],
      [['a\0'], 'the_field[0]: must not contain NUL characters'],
    ],
  },
  {
    name: 'unique strings',
    field: strings({ unique: true }),
    good: [['a', 'b'], []],
    bad: [[['a', 'b', 'a'], 'the_field[2]: must differ from all others, is equal to the_field[0]']],
  },
  {
    name: 'unique messages',
    field: { type: Type.MESSAGE, repeated: true, typeName: '.yandex.cloud.access.Subject', rules: { unique: true } },
    good: [[{ id: 'a', type: 'b' }]],
    bad: [
      [
        [
          { id: 'a', type: 'b' },
          { id: 'a', type: 'b' },
        ],
        'the_field[1]: must differ from all others, is equal to the_field[0]',
      ],
    ],
  },
  {
    name: 'any time',
    field: { type: Type.MESSAGE, typeName: '.google.protobuf.Timestamp' },
    good: [undefined, new Date(0), new Date('0001-01-01T00:00:00Z'), new Date('9999-12-31T23:59:59.999Z')],
    bad: [
      [new Date(NaN), 'the_field: must be between 0001-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z'],
      [
        new Date('+010000-01-01T00:00:00Z'),
        'the_field: must be between 0001-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z, is +010000-01-01T00:00:00.000Z',
      ],
    ],
  },
  {
    name: 'a range of times',
    field: {
      type: Type.MESSAGE,
      typeName: '.google.protobuf.Timestamp',
      rules: { value: '19700101T000000.000000000-20000101T000000', required: true },
    },
    good: [new Date(0), new Date('2000-01-01T00:00:00Z')],
    bad: [
      [undefined, 'the_field: must be given'],
      [
        new Date('2000-01-01T00:00:00.001Z'),
        'the_field: must be between 1970-01-01T00:00:00.000Z and 2000-01-01T00:00:00.000Z, is 2000-01-01T00:00:00.001Z',
      ],
    ],
  },
  {
    name: 'a wrapped number',
    field: { type: Type.MESSAGE, typeName: '.google.protobuf.Int64Value', rules: { value: '>5' } },
    good: [undefined, 0n, 6n],
    bad: [[5n, 'the_field: must be more than 5, is 5']],
  },
  {
    name: 'a required message',
    field: { type: Type.MESSAGE, typeName: '.yandex.cloud.access.Subject', rules: { required: true } },
    good: [{ id: 'a', type: 'b' }],
    bad: [
      [undefined, 'the_field: must be given'],
      [{ id: '', type: 'b' }, 'the_field.id: must be given'],
    ],
  },
  {
    name: 'a message that nests in itself',
    field: { type: Type.MESSAGE, typeName: '.test.Nested' },
    good: [{ text: 'a', inner: { text: 'b', inner: undefined } }],
    bad: [
      [
        { text: '', inner: { text: '', inner: { text: '\0', inner: undefined } } },
        'the_field.inner.inner.text: must not contain NUL characters',
      ],
    ],
  },
];

describe('Rules of a field', () => {
  for (const { name, field, good, bad } of cases) {
    it(`know ${name}`, () => {
      for (const value of good) expect(violationsOf(field, value)).to.deep.equal([]);
      for (const [value, violation] of bad) expect(violationsOf(field, value)).to.deep.equal([violation]);
    });
  }

  const misplaced: [string, TestField, string][] = [
    ['a pattern on a number', { type: Type.INT64, rules: { pattern: 'a' } }, 'the rule pattern does not fit this type'],
    [
      'a length on a message',
      { type: Type.MESSAGE, typeName: '.test.Nested', rules: { length: '<=1' } },
      'the rule length does not fit',
    ],
    ['a range that is none', string({ length: 'short' }), '"short" is not a range'],
    ['a pattern that is none', string({ pattern: '(' }), 'Invalid regular expression'],
  ];
  for (const [what, field, text] of misplaced) {
    it(`are refused at the start when they cannot be meant: ${what}`, () => {
      expect(() => violationsOf(field, undefined)).to.throw(`field test.Test.the_field: ${text}`);
    });
  }
});
