// Which parts of a buffer are zeros, so that they need not be sent. Sizes are bytes.

/** Zeros are looked for in pieces of this size; smaller ones are sent as they are. */
const pieceBytes = 64 * 1024;
const zeros = Buffer.alloc(pieceBytes);

export interface Run {
  start: number;
  end: number;
  zero: boolean;
}

export function isZero(bytes: Buffer, start: number, end: number): boolean {
  // Most data is not zero at its edges: no call is needed to know.
  if (bytes[start] !== 0 || bytes[end - 1] !== 0) return false;
  for (let at = start; at < end; at += pieceBytes) {
    const length = Math.min(pieceBytes, end - at);
    if (bytes.compare(zeros, 0, length, at, at + length) !== 0) return false;
  }
  return true;
}

/** The runs of [start, end) in order, zeros and others in turn; a run between two others is at least one piece long. */
export function zeroRuns(bytes: Buffer, start: number, end: number): Run[] {
  const runs: Run[] = [];
  for (let at = start; at < end; at += pieceBytes) {
    const pieceEnd = Math.min(at + pieceBytes, end);
    const zero = isZero(bytes, at, pieceEnd);
    const last = runs.at(-1);
    if (last?.zero === zero) last.end = pieceEnd;
    else runs.push({ start: at, end: pieceEnd, zero });
  }
  return runs;
}
