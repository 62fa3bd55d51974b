// A write, trim or write of zeros as records of a log: whole sectors, cut where a record ends. What covers a sector in part becomes data.
import { type RecordKind, maxRecordSectors, recordKind, sectorBytes } from './log-format.ts';
import { type LogEntry, checksOf } from './open-log.ts';

export interface Change {
  /** Any bytes of the disk. */
  offset: number;
  length: number;
  kind: RecordKind;
  /** When the kind is data. */
  data?: Uint8Array;
}

/** What the first and the last sector of a change held before it, where it covers them in part; the head alone when they are one. */
export interface Edges {
  head: Buffer | undefined;
  tail: Buffer | undefined;
}

const nothing = new Uint8Array(0);
const noChecks = new Uint32Array(0);
const noEdges: Edges = { head: undefined, tail: undefined };

/** Patches the edges in place. The entries hold views of the data. */
export function entriesOf(change: Change, { head, tail }: Edges = noEdges): LogEntry[] {
  const { offset, length, kind, data } = change;
  const end = offset + length;
  const first = Math.floor(offset / sectorBytes) * sectorBytes;
  const wholeFrom = head === undefined ? offset : first + sectorBytes;
  const wholeTo = tail === undefined ? Math.max(wholeFrom, end) : Math.floor(end / sectorBytes) * sectorBytes;
  patch(head, change, first);
  patch(tail, change, wholeTo);
  if (kind === recordKind.data) {
    const middle = data!.subarray(wholeFrom - offset, wholeTo - offset);
    return dataEntries(first, [head ?? nothing, middle, tail ?? nothing]);
  }
  const entries: LogEntry[] = head === undefined ? [] : dataEntries(first, [head]);
  if (wholeTo > wholeFrom)
    entries.push({ kind, offset: wholeFrom, lengthBytes: wholeTo - wholeFrom, parts: [], checks: noChecks });
  if (tail !== undefined) entries.push(...dataEntries(wholeTo, [tail]));
  return entries;
}

/** Puts what the change has for the sector at `start` into it. */
function patch(sector: Buffer | undefined, { offset, length, data }: Change, start: number): void {
  if (sector === undefined) return;
  const from = Math.max(offset, start);
  const to = Math.min(offset + length, start + sectorBytes);
  if (data === undefined) sector.fill(0, from - start, to - start);
  else sector.set(data.subarray(from - offset, to - offset), from - start);
}

function dataEntries(offset: number, parts: readonly Uint8Array[]): LogEntry[] {
  const entries: LogEntry[] = [];
  let at = offset;
  let entry: { lengthBytes: number; parts: Uint8Array[] } = { lengthBytes: 0, parts: [] };
  const close = (): void => {
    const { lengthBytes, parts: own } = entry;
    const checks = checksOf(own, lengthBytes);
    if (lengthBytes > 0) entries.push({ kind: recordKind.data, offset: at - lengthBytes, lengthBytes, parts: own, checks });
    entry = { lengthBytes: 0, parts: [] };
  };
  for (const part of parts) {
    for (let taken = 0; taken < part.length;) {
      const room = maxRecordSectors * sectorBytes - entry.lengthBytes;
      const piece = part.subarray(taken, taken + room);
      entry.parts.push(piece);
      entry.lengthBytes += piece.length;
      taken += piece.length;
      at += piece.length;
      if (piece.length === room) close();
    }
  }
  close();
  return entries;
}
