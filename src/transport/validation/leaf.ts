// Checks of one value by itself. Each answers what is wrong with it in words that follow the field's name, or undefined. Values are
// quoted only by rules about their text: a token that is too long must not come back in an error.
import { type DescEnum, ScalarType } from '@bufbuild/protobuf';
import { describeRange, isInside, parseRange, parseTimeRange } from './range.ts';
import type { LeafRules } from './rules.ts';

export type LeafCheck = (value: unknown) => string | undefined;

const shownCharacters = 40;

/** The value in quotes, shortened, in one line. */
export function quote(text: string, most = shownCharacters): string {
  return JSON.stringify(text.length > most ? `${text.slice(0, most)}…` : text);
}

/** Zero, empty and absent are the same on the wire, and mean "not given". */
export const isUnset = (value: unknown): boolean =>
  value === undefined ||
  value === '' ||
  value === 0 ||
  value === 0n ||
  value === false ||
  (value instanceof Uint8Array && value.length === 0);

/** @throws Error for rules that do not fit the type: a fault in a proto. */
export function scalarCheck(scalar: ScalarType, rules: LeafRules): LeafCheck | undefined {
  if (scalar === ScalarType.STRING) return stringCheck(rules);
  if (scalar === ScalarType.BYTES) {
    only(rules, 'bytes');
    return rules.bytes === undefined ? undefined : countCheck(rules.bytes, 'bytes', (value) => (value as Uint8Array).length);
  }
  if (scalar === ScalarType.BOOL) {
    only(rules);
    return undefined;
  }
  only(rules, 'value');
  return rules.value === undefined ? undefined : numberCheck(rules.value);
}

function stringCheck(rules: LeafRules): LeafCheck {
  only(rules, 'length', 'pattern', 'value');
  const checks = [stringCheckOfAll];
  if (rules.length !== undefined) checks.push(lengthCheck(rules.length));
  if (rules.value !== undefined) checks.push(choiceCheck(rules.value.split('|')));
  if (rules.pattern !== undefined) checks.push(patternCheck(rules.pattern));
  return firstFault(checks);
}

/** What holds for every string: see transport/decode.ts for the first, and PostgreSQL, whose texts cannot hold it, for the second. */
const stringCheckOfAll: LeafCheck = (value) => {
  if (!(value as string).isWellFormed()) return 'must be valid UTF-8';
  return (value as string).includes('\0') ? 'must not contain NUL characters' : undefined;
};

function lengthCheck(text: string): LeafCheck {
  const range = parseRange(text);
  const check = countCheck(text, 'characters', (value) => countCharacters(value as string));
  // A string has at most as many characters as UTF-16 units: most need no counting.
  const { min, max, exclusive } = range;
  const quickMax = min === undefined && max !== undefined ? Number(max) - (exclusive ? 1 : 0) : -1;
  return (value) => ((value as string).length <= quickMax ? undefined : check(value));
}

/** Unicode code points. */
function countCharacters(text: string): number {
  let count = text.length;
  for (let index = 1; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    // The second half of a pair; the string is well-formed here.
    if (unit >= 0xdc00 && unit <= 0xdfff) count -= 1;
  }
  return count;
}

/** `must have at most 63 characters, has 64`. */
export function countCheck(text: string, unit: string, countOf: (value: unknown) => number): LeafCheck {
  const range = parseRange(text);
  const wanted = `must have ${describeRange(range)} ${unit}`;
  return (value) => {
    const count = countOf(value);
    return isInside(range, count) ? undefined : `${wanted}, has ${count}`;
  };
}

function patternCheck(pattern: string): LeafCheck {
  const whole = new RegExp(`^(?:${pattern})$`, 'u');
  return (value) => (whole.test(value as string) ? undefined : `${quote(value as string)} does not match ${pattern}`);
}

const choiceCheck = (choices: readonly string[]): LeafCheck => {
  const allowed = new Set<unknown>(choices);
  return (value) => (allowed.has(value) ? undefined : `must be one of ${choices.join(', ')}, is ${quote(value as string)}`);
};

function numberCheck(text: string): LeafCheck {
  const range = parseRange(text);
  const wanted = `must be ${describeRange(range)}`;
  return (value) => (isInside(range, value as number | bigint) ? undefined : `${wanted}, is ${String(value)}`);
}

/** Only numbers that the enum knows, and of these only those that the rule `value` names, if there is one. */
export function enumCheck(desc: DescEnum, rules: LeafRules): LeafCheck {
  only(rules, 'value');
  const names = rules.value?.split('|') ?? desc.values.map(({ name }) => name);
  const numbers = new Set<unknown>(desc.values.filter(({ name }) => names.includes(name)).map(({ number }) => number));
  const wanted = `must be one of ${names.join(', ')}`;
  return (value) => (numbers.has(value) ? undefined : `${wanted}, is ${String(value)}`);
}

/** google.protobuf.Timestamp, first and last second. */
const timestampRange = { min: Date.parse('0001-01-01T00:00:00Z'), max: Date.parse('9999-12-31T23:59:59.999Z'), exclusive: false };

/** A Timestamp, decoded to a Date. What no Date can hold is an invalid Date, and outside of every range. */
export function timeCheck(rules: LeafRules): LeafCheck {
  only(rules, 'value');
  const range = rules.value === undefined ? timestampRange : parseTimeRange(rules.value);
  const wanted = `must be ${describeRange(range, (ms) => new Date(ms).toISOString())}`;
  return (value) => {
    const ms = (value as Date).getTime();
    if (isInside(range, ms)) return undefined;
    return Number.isNaN(ms) ? wanted : `${wanted}, is ${(value as Date).toISOString()}`;
  };
}

export function firstFault(checks: readonly LeafCheck[]): LeafCheck {
  if (checks.length === 1) return checks[0]!;
  return (value) => {
    for (const check of checks) {
      const fault = check(value);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
}

/** A rule of another kind would be silently ignored: the proto is wrong. */
export function only({ pattern, value, length, bytes }: LeafRules, ...kinds: (keyof LeafRules)[]): void {
  for (const [kind, text] of Object.entries({ pattern, value, length, bytes })) {
    if (text !== undefined && !kinds.includes(kind as keyof LeafRules))
      throw new Error(`the rule ${kind} does not fit this type`);
  }
}
