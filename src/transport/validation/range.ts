// Ranges as the options of yandex/cloud/validation.proto write them: `1-10`, `>0`, `<=1000`, `5`. Bounds are bigint, or number when
// they have a fraction; JavaScript compares both kinds exactly with either kind of value.

type Bound = bigint | number;

export interface Range<Of = Bound> {
  min?: Of;
  max?: Of;
  /** `>` and `<`: the bounds themselves are outside. */
  exclusive: boolean;
}

const bound = String.raw`-?\d+(?:\.\d+)?`;
const between = new RegExp(`^(${bound})-(${bound})$`);
const oneSided = new RegExp(`^([<>]=?|=)?(${bound})$`);

/** @throws Error for a text that is no range: a fault in a proto. */
export function parseRange(text: string): Range {
  const two = between.exec(text);
  if (two !== null) return { min: toBound(two[1]!), max: toBound(two[2]!), exclusive: false };
  const one = oneSided.exec(text);
  if (one === null) throw new Error(`"${text}" is not a range`);
  const [, sign = '=', limit] = one;
  const value = toBound(limit!);
  const exclusive = sign === '<' || sign === '>';
  return {
    ...(sign.startsWith('<') ? {} : { min: value }),
    ...(sign.startsWith('>') ? {} : { max: value }),
    exclusive,
  };
}

const toBound = (text: string): Bound => (text.includes('.') ? Number(text) : BigInt(text));

/** False for NaN too. */
export function isInside({ min, max, exclusive }: Range, value: Bound): boolean {
  if (min !== undefined && !(exclusive ? value > min : value >= min)) return false;
  return max === undefined || (exclusive ? value < max : value <= max);
}

/** `between 0 and 1000`, `at most 50`, `more than 0`. */
export function describeRange<Of>({ min, max, exclusive }: Range<Of>, show: (bound: Of) => string = String): string {
  if (min !== undefined && max !== undefined)
    return min === max ? `exactly ${show(min)}` : `between ${show(min)} and ${show(max)}`;
  if (min !== undefined) return `${exclusive ? 'more than' : 'at least'} ${show(min)}`;
  return max === undefined ? 'anything' : `${exclusive ? 'less than' : 'at most'} ${show(max)}`;
}

const time = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(?:\.(\d{1,9}))?$/;

/** A range of times, `19700101T000000.000000000-21051231T235959.999999999`, in milliseconds since 1970. */
export function parseTimeRange(text: string): Range<number> {
  const [min, max, ...more] = text.split('-').map(parseTime);
  if (min === undefined || max === undefined || more.length > 0) throw new Error(`"${text}" is not a range of times`);
  return { min, max, exclusive: false };
}

function parseTime(text: string): number {
  const parts = time.exec(text);
  if (parts === null) throw new Error(`"${text}" is not a time`);
  const [, year, month, day, hour, minute, second, fraction = ''] = parts;
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}.${fraction.padEnd(3, '0').slice(0, 3)}Z`);
}
