// Random messages of any type in a descriptor set, as the input of properties about codecs.

import { create, ScalarType } from '@bufbuild/protobuf';
import type { DescEnum, DescField, DescMessage, Message } from '@bufbuild/protobuf';
import { reflect } from '@bufbuild/protobuf/reflect';
import type { ReflectList, ReflectMap } from '@bufbuild/protobuf/reflect';
import * as fc from 'fast-check';

/** Tells whether a field may be set; a field that is left out stays at its default, at every depth. */
export type FieldChoice = (message: DescMessage, field: DescField) => boolean;

// Codecs keep times as Date and may keep 64-bit numbers as Number, so values stay in what both can hold.
const LAST_SECOND = 253_402_300_799n; // 9999-12-31T23:59:59Z, the end of google.protobuf.Timestamp
const LARGEST_SAFE = BigInt(Number.MAX_SAFE_INTEGER);

// Made once: making an arbitrary of strings costs far more than drawing from it.
const KEYS = fc.stringMatching(/^[a-z][-_0-9a-z]{0,12}$/);
const SCALARS = new Map<ScalarType, fc.Arbitrary<unknown>>([
  [ScalarType.STRING, fc.string({ unit: 'grapheme', maxLength: 12 })],
  [ScalarType.BYTES, fc.uint8Array({ maxLength: 12 })],
  [ScalarType.BOOL, fc.boolean()],
  [ScalarType.INT32, fc.integer()],
  [ScalarType.UINT32, fc.nat()],
  [ScalarType.INT64, fc.bigInt(-LARGEST_SAFE, LARGEST_SAFE)],
  [ScalarType.UINT64, fc.bigInt(0n, LARGEST_SAFE)],
  // Adding zero turns -0, which some codecs take for the default, into 0.
  [ScalarType.FLOAT, fc.float({ noNaN: true }).map((each) => each + 0)],
  [ScalarType.DOUBLE, fc.double({ noNaN: true }).map((each) => each + 0)],
]);

/** Messages of type `desc` in which any of the chosen fields are set. Nothing in them is recursive, so depth is bounded. */
export function messageArbitrary(desc: DescMessage, choice: FieldChoice = () => true): fc.Arbitrary<Message> {
  const setters = desc.members.map((member): fc.Arbitrary<Setting | undefined> => {
    if (member.kind === 'field')
      return choice(desc, member) ? fc.option(setting(desc, member, choice), { nil: undefined }) : fc.constant(undefined);
    const fields = member.fields.filter((field) => choice(desc, field));
    return fc.oneof(fc.constant(undefined), ...fields.map((field) => setting(desc, field, choice)));
  });
  return fc.tuple(...setters).map((settings) =>
    build(
      desc,
      settings.filter((each) => each !== undefined),
    ),
  );
}

/** Messages of type `desc` in which `field` alone is set, to something else than its default. */
export function singleFieldArbitrary(desc: DescMessage, field: DescField, choice: FieldChoice): fc.Arbitrary<Message> {
  return setting(desc, field, choice, true).map((only) => build(desc, [only]));
}

interface Setting {
  readonly field: DescField;
  readonly value: unknown;
}

function build(desc: DescMessage, settings: readonly Setting[]): Message {
  const message = create(desc);
  const target = reflect(desc, message);
  for (const { field, value } of settings) {
    if (field.fieldKind === 'list') {
      const list: ReflectList = target.get(field);
      for (const item of value as unknown[]) list.add(wrapped(field.message, item));
    } else if (field.fieldKind === 'map') {
      const map: ReflectMap = target.get(field);
      for (const [key, item] of value as [string, unknown][]) map.set(key, wrapped(field.message, item));
    } else {
      target.set(field, wrapped(field.message, value));
    }
  }
  return message;
}

function wrapped(desc: DescMessage | undefined, value: unknown): unknown {
  return desc === undefined ? value : reflect(desc, value as Message);
}

function setting(desc: DescMessage, field: DescField, choice: FieldChoice, notDefault = false): fc.Arbitrary<Setting> {
  const minLength = notDefault ? 1 : 0;
  if (desc.typeName === 'google.protobuf.Timestamp') {
    const value: fc.Arbitrary<unknown> =
      field.name === 'seconds' ? fc.bigInt(0n, LAST_SECOND) : fc.integer({ min: 0, max: 999 }).map((ms) => ms * 1_000_000);
    return value.map((each) => ({ field, value: each }));
  }
  const element = elementArbitrary(field, choice, notDefault);
  let value: fc.Arbitrary<unknown>;
  if (field.fieldKind === 'list') value = fc.array(element, { minLength, maxLength: 3 });
  else if (field.fieldKind === 'map')
    value = fc.uniqueArray(fc.tuple(mapKey(field), element), { minLength, maxLength: 3, selector: ([key]) => key });
  else value = notDefault && field.fieldKind === 'scalar' ? element.filter((each) => !isDefault(each)) : element;
  return value.map((each) => ({ field, value: each }));
}

function mapKey(field: DescField & { fieldKind: 'map' }): fc.Arbitrary<string> {
  if (field.mapKey !== ScalarType.STRING) throw new Error(`${field.toString()}: only maps with string keys are known here`);
  return KEYS;
}

function elementArbitrary(field: DescField, choice: FieldChoice, notDefault: boolean): fc.Arbitrary<unknown> {
  if (field.message !== undefined) return messageArbitrary(field.message, choice);
  if (field.enum !== undefined) return enumArbitrary(field.enum, notDefault);
  const values = field.scalar === undefined ? undefined : SCALARS.get(field.scalar);
  if (values === undefined) throw new Error(`${field.toString()}: no values of this type are known here`);
  return values;
}

function enumArbitrary(desc: DescEnum, notDefault: boolean): fc.Arbitrary<number> {
  const numbers = desc.values.map((value) => value.number).filter((number) => !notDefault || number !== 0);
  // Enums are open: where only the default has a name, a number without one stands for the others.
  return numbers.length > 0 ? fc.constantFrom(...numbers) : fc.constant(1);
}

function isDefault(value: unknown): boolean {
  return value === '' || value === 0 || value === 0n || value === false || (value instanceof Uint8Array && value.length === 0);
}
