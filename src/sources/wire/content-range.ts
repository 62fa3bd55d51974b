/** Content-Range of RFC 9110 section 14.4 in the unit of bytes; `end` is the first byte after the range. */
export interface ContentRange {
  start: number;
  end: number;
  /** Undefined when the server does not tell it (`*`). */
  sizeBytes: number | undefined;
}

/** Reads `bytes 0-9/100`; undefined for anything else, ranges that contradict themselves included. */
export function parseContentRange(value: string | undefined): ContentRange | undefined {
  const parts = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)$/i.exec(value ?? '');
  if (parts === null) return undefined;
  const range: ContentRange = {
    start: Number(parts[1]),
    end: Number(parts[2]) + 1,
    sizeBytes: parts[3] === '*' ? undefined : Number(parts[3]),
  };
  const isSound =
    Number.isSafeInteger(range.end) && range.start < range.end && range.end <= (range.sizeBytes ?? Number.MAX_SAFE_INTEGER);
  return isSound ? range : undefined;
}

/** Reads the size from the answer 416: `bytes * /100` (without the space). */
export function parseUnsatisfiedRange(value: string | undefined): number | undefined {
  const parts = /^bytes \*\/(\d{1,15})$/i.exec(value ?? '');
  return parts === null ? undefined : Number(parts[1]);
}
