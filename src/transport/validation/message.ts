// Compiles the rules of a message type into one function over what ts-proto decodes: camelCase fields, bigint for 64 bits, Date for
// Timestamp, `{ $case, value }` for a oneof, an object for a map. Violations name fields as protos do: `access_bindings[3].subject.id`,
// `labels["Bad"]`. Nothing is allocated while a message is good, but prefixes of nested ones.
import { type DescField, type DescMessage, type DescOneof, type FileRegistry, ScalarType } from '@bufbuild/protobuf';
import type { FieldViolation } from '../../platform/errors.ts';
import { type LeafCheck, countCheck, enumCheck, isUnset, only, quote, scalarCheck, timeCheck } from './leaf.ts';
import { type FieldRules, type LeafRules, ruleReader } from './rules.ts';

/** More than a person reads, and a bound on what one request can make us say. */
export const maxViolations = 50;

/** Adds what is wrong with a message; `prefix` is empty or ends with a dot. Stops adding at `maxViolations`. */
export type MessageCheck = (message: object, prefix: string, violations: FieldViolation[]) => void;

type ValueCheck = (value: unknown, path: string, violations: FieldViolation[]) => void;

const notGiven = 'must be given';
const maxKeyCharacters = 64;

/** Answers the check of a message type; types are compiled once, when first asked for. @throws Error for a rule that fits no type. */
export function messageCompiler(registry: FileRegistry): (desc: DescMessage) => MessageCheck {
  const rules = ruleReader(registry);
  const compiled = new Map<string, MessageCheck>();

  function compile(desc: DescMessage): MessageCheck {
    const known = compiled.get(desc.typeName);
    if (known !== undefined) return known;
    let members: MessageCheck[] = [];
    const check: MessageCheck = (message, prefix, violations) => {
      for (const member of members) member(message, prefix, violations);
    };
    // Known before its members are compiled: messages nest in themselves.
    compiled.set(desc.typeName, check);
    members = desc.members.map((member) => (member.kind === 'oneof' ? compileOneof(member) : compileField(member)));
    return check;
  }

  function compileField(field: DescField): MessageCheck {
    const check = atField(field, () => valueCheck(field, rules.field(field)));
    const { localName, name } = field;
    if (check === undefined) return () => {};
    return (message, prefix, violations) => {
      check((message as Record<string, unknown>)[localName], prefix + name, violations);
    };
  }

  function compileOneof(oneof: DescOneof): MessageCheck {
    const exactlyOne = rules.isExactlyOne(oneof);
    const fault = `exactly one of ${oneof.fields.map(({ name }) => name).join(', ')} must be given`;
    const cases = new Map(
      oneof.fields.map((field) => [
        field.localName,
        { name: field.name, check: atField(field, () => valueCheck(field, rules.field(field))) },
      ]),
    );
    return (message, prefix, violations) => {
      const chosen = (message as Record<string, { $case: string; value: unknown } | undefined>)[oneof.localName];
      // An empty text is none of it; a zero that was chosen is a value.
      if (chosen === undefined || (exactlyOne && chosen.value === '')) {
        if (exactlyOne) add(violations, prefix + oneof.name, fault);
        return;
      }
      const { name, check } = cases.get(chosen.$case)!;
      check?.(chosen.value, prefix + name, violations);
    };
  }

  function valueCheck(field: DescField, fieldRules: FieldRules): ValueCheck | undefined {
    const element = elementCheck(field, fieldRules);
    if (field.fieldKind === 'list') return listCheck(element, fieldRules);
    if (field.fieldKind !== 'map') return singularCheck(element, fieldRules);
    if (field.mapKey !== ScalarType.STRING) throw new Error('only maps with string keys are known here');
    return mapCheck(scalarCheck(ScalarType.STRING, fieldRules.mapKey)!, element, fieldRules);
  }

  /** The check of a value that is given: of the field itself, or of each element of a list or value of a map. */
  function elementCheck(field: DescField, leafRules: LeafRules): ValueCheck | undefined {
    if (field.enum !== undefined) return leaf(enumCheck(field.enum, leafRules));
    if (field.scalar !== undefined) return leaf(scalarCheck(field.scalar, leafRules));
    const desc = field.message;
    const special = wellKnownCheck(desc, leafRules);
    if (special !== undefined) return special.check;
    only(leafRules);
    const check = compile(desc);
    return (value, path, violations) => check(value as object, `${path}.`, violations);
  }

  return compile;
}

/** Types that ts-proto decodes to something else than their fields. Methods check update masks by what they can update. */
function wellKnownCheck(desc: DescMessage, rules: LeafRules): { check: ValueCheck | undefined } | undefined {
  switch (desc.typeName) {
    case 'google.protobuf.Timestamp':
      return { check: leaf(timeCheck(rules)) };
    case 'google.protobuf.FieldMask':
    case 'google.protobuf.Any':
    case 'google.protobuf.Struct':
      only(rules);
      return { check: undefined };
    default: {
      const wrapped = desc.typeName.startsWith('google.protobuf.') && desc.name.endsWith('Value') ? desc.fields[0] : undefined;
      return wrapped?.scalar === undefined ? undefined : { check: leaf(scalarCheck(wrapped.scalar, rules)) };
    }
  }
}

function singularCheck(element: ValueCheck | undefined, { required }: FieldRules): ValueCheck | undefined {
  if (!required && element === undefined) return undefined;
  return (value, path, violations) => {
    if (!isUnset(value)) element?.(value, path, violations);
    else if (required) add(violations, path, notGiven);
  };
}

function listCheck(element: ValueCheck | undefined, { required, unique, size }: FieldRules): ValueCheck {
  const sizeFault = size === undefined ? undefined : countCheck(size, 'elements', (value) => (value as unknown[]).length);
  return (value, path, violations) => {
    const list = value as unknown[];
    if (list.length === 0) {
      if (required) add(violations, path, notGiven);
      return;
    }
    const fault = sizeFault?.(list);
    if (fault !== undefined) return add(violations, path, fault);
    if (element !== undefined) {
      for (let index = 0; index < list.length && violations.length < maxViolations; index += 1) {
        if (!isUnset(list[index])) element(list[index], `${path}[${index}]`, violations);
      }
    }
    if (unique) addRepeated(list, path, violations);
  };
}

function addRepeated(list: readonly unknown[], path: string, violations: FieldViolation[]): void {
  const seen = new Map<unknown, number>();
  for (const [index, item] of list.entries()) {
    const key =
      typeof item === 'object'
        ? JSON.stringify(item, (_, part: unknown) => (typeof part === 'bigint' ? `${part}n` : part))
        : item;
    const first = seen.get(key);
    if (first === undefined) seen.set(key, index);
    else add(violations, `${path}[${index}]`, `must differ from all others, is equal to ${path}[${first}]`);
  }
}

function mapCheck(keyCheck: LeafCheck, element: ValueCheck | undefined, { required, size }: FieldRules): ValueCheck {
  const sizeFault = size === undefined ? undefined : countCheck(size, 'elements', (value) => (value as unknown[]).length);
  return (value, path, violations) => {
    const entries = Object.entries(value as object);
    if (entries.length === 0) {
      if (required) add(violations, path, notGiven);
      return;
    }
    const fault = sizeFault?.(entries);
    if (fault !== undefined) return add(violations, path, fault);
    for (const [key, item] of entries) {
      if (violations.length >= maxViolations) return;
      // A key is always given, be it empty.
      const keyFault = keyCheck(key);
      if (keyFault !== undefined) add(violations, atKey(path, key), `key ${keyFault}`);
      if (element !== undefined && !isUnset(item)) element(item, atKey(path, key), violations);
    }
  };
}

const atKey = (path: string, key: string): string => `${path}[${quote(key, maxKeyCharacters)}]`;

const leaf = (check: LeafCheck | undefined): ValueCheck | undefined =>
  check === undefined
    ? undefined
    : (value, path, violations) => {
        const fault = check(value);
        if (fault !== undefined) add(violations, path, fault);
      };

function add(violations: FieldViolation[], field: string, description: string): void {
  if (violations.length < maxViolations) violations.push({ field, description });
}

/** A fault in a proto is told with its place. */
function atField<Answer>(field: DescField, work: () => Answer): Answer {
  try {
    return work();
  } catch (error) {
    throw new Error(`${field.toString()}: ${(error as Error).message}`, { cause: error });
  }
}
