// The merged view of a base and the generations above it. What it reads of a log is verified; a request sees the layers as they were
// when it began, and what was dropped meanwhile is closed when the last such request has ended.
import { crc32 } from 'node:zlib';
import { readVectorsFully } from '../drivers/local/file-calls.ts';
import { type Extent, addExtent } from '../extents.ts';
import type { LayerView } from '../layer-view.ts';
import { settleAll } from '../../platform/until-aborted.ts';
import { LogDamagedError } from './errors.ts';
import type { Generation } from './generation.ts';
import { groupBytes } from './generation-index.ts';
import { readError } from './log-file.ts';
import { assertDiskRange, sectorBytes } from './log-format.ts';
import { type RunVisitor, type Stack, currentPosition, isTouched, visitRuns } from './read-plan.ts';
import type { WrittenCache } from './written-cache.ts';

/** Sectors that lie close to one another in a log, in its order: one read of the file. */
interface LogRun {
  generation: Generation;
  position: number;
  /** Up to where in the log. */
  end: number;
  sectors: { offset: number; end: number; position: number; check: number }[];
}

/** Bytes between two sectors that are read for nothing, rather than by another call: the headers of records. */
const maxGapBytes = 2 * sectorBytes;
const maxRunBytes = 4 * 1024 * 1024;
/** How far one question for extents looks. */
const maxStatusBytes = 1024 * 1024 * 1024;
/** How much of that may be looked at sector by sector: it is done in one go, and everybody else waits. */
const maxVisitedBytes = 64 * 1024 * 1024;
/** Reads larger than this do not drive other sectors out of memory. */
const maxCachedReadBytes = 64 * 1024;

export class OverlayReader {
  readonly sizeBytes: number;
  readonly #written: WrittenCache;
  #stack: Stack;
  #requests = new Requests();
  #earlier = Promise.resolve();

  constructor(sizeBytes: number, stack: Stack, written: WrittenCache) {
    this.sizeBytes = sizeBytes;
    this.#written = written;
    this.#stack = stack;
  }

  get stack(): Stack {
    return this.#stack;
  }

  /** Requests from now on use `stack`. @returns when all that began before have ended. */
  replace(stack: Stack): Promise<void> {
    const before = this.#requests;
    const after = this.#earlier;
    this.#stack = stack;
    this.#requests = new Requests();
    this.#earlier = before.ended().then(() => after);
    return this.#earlier;
  }

  readNow(target: Uint8Array, offset: number): boolean {
    assertDiskRange(this.sizeBytes, offset, target.length);
    const visitor = new NowVisitor(target, offset, this.#stack.base, this.#written);
    visitRuns(this.#stack, offset, offset + target.length, visitor);
    return visitor.isComplete;
  }

  async read(target: Uint8Array, offset: number, signal?: AbortSignal): Promise<void> {
    assertDiskRange(this.sizeBytes, offset, target.length);
    signal?.throwIfAborted();
    const stack = this.#stack;
    const end = this.#requests.begin();
    try {
      const plan = new PlanVisitor(target, offset, this.#written);
      visitRuns(stack, offset, offset + target.length, plan);
      const reads = plan.baseRanges.map(([from, to]) =>
        readBase(stack.base, target.subarray(from - offset, to - offset), from, signal),
      );
      const keeps = target.length <= maxCachedReadBytes;
      for (const run of plan.runs) reads.push(this.#readLog(run, target, offset, keeps));
      if (reads.length === 1) await reads[0];
      else await settleAll(reads);
      signal?.throwIfAborted();
    } finally {
      end();
    }
  }

  async #readLog(run: LogRun, target: Uint8Array, offset: number, keeps: boolean): Promise<void> {
    const vectors: Uint8Array[] = [];
    const whole: Uint8Array[] = [];
    let position = run.position;
    for (const sector of run.sectors) {
      if (position < sector.position) vectors.push(gap.subarray(0, sector.position - position));
      const isWhole = sector.end - sector.offset === sectorBytes;
      const bytes = isWhole ? target.subarray(sector.offset - offset, sector.end - offset) : Buffer.allocUnsafe(sectorBytes);
      vectors.push(bytes);
      whole.push(bytes);
      position = sector.position + sectorBytes;
    }
    const { generation } = run;
    const count = await readVectorsFully(generation.descriptor, joined(vectors), run.position).catch((error: unknown) => {
      throw readError(error);
    });
    if (count !== run.end - run.position) throw new LogDamagedError(generation.name, 'its file is too short');
    for (const [index, sector] of run.sectors.entries()) {
      const bytes = whole[index]!;
      if (crc32(bytes) !== sector.check)
        throw new LogDamagedError(generation.name, `the sector at ${sector.position} does not match its checksum`);
      const isPart = sector.end - sector.offset < sectorBytes;
      const start = Math.floor(sector.offset / sectorBytes) * sectorBytes;
      if (isPart) target.set(bytes.subarray(sector.offset - start, sector.end - start), sector.offset - offset);
      if (keeps && this.#isCurrent(start, generation, sector.position)) this.#written.set(start, bytes, true);
    }
  }

  /** Whether nothing was written over a sector since it was looked up. */
  #isCurrent(offset: number, generation: Generation, position: number): boolean {
    const group = Math.floor(offset / groupBytes);
    const current = currentPosition(this.#stack, group, (offset - group * groupBytes) / sectorBytes);
    return current !== undefined && current.generation === generation && current.position === position;
  }

  async extents(offset: number, length: number, maxRuns: number, signal?: AbortSignal): Promise<Extent[]> {
    assertDiskRange(this.sizeBytes, offset, length);
    const stack = this.#stack;
    const end = this.#requests.begin();
    try {
      const limit = offset + Math.min(length, maxStatusBytes);
      const extents: Extent[] = [];
      let visitedBytes = 0;
      for (let at = offset; at < limit && visitedBytes < maxVisitedBytes && extents.length <= maxRuns;) {
        const next = Math.min(limit, (Math.floor(at / groupBytes) + 1) * groupBytes);
        if (isTouched(stack, Math.floor(at / groupBytes))) {
          visitRuns(stack, at, next, new ExtentVisitor(extents));
          visitedBytes += next - at;
          at = next;
          continue;
        }
        const untouchedEnd = untouchedUntil(stack, at, limit);
        const seen = await baseExtents(stack.base, at, untouchedEnd, maxRuns + 1 - extents.length, signal);
        for (const run of seen) {
          addExtent(extents, run.length, run.hole, run.zero);
          at += run.length;
        }
      }
      return extents.slice(0, maxRuns);
    } finally {
      end();
    }
  }
}

/** Counts the requests on one stack. */
class Requests {
  #running = 0;
  #over = false;
  readonly #end = Promise.withResolvers<void>();

  begin(): () => void {
    this.#running += 1;
    return () => {
      this.#running -= 1;
      if (this.#over && this.#running === 0) this.#end.resolve();
    };
  }

  /** No request begins any more: resolves when the last has ended. */
  ended(): Promise<void> {
    this.#over = true;
    if (this.#running === 0) this.#end.resolve();
    return this.#end.promise;
  }
}

const gap = Buffer.alloc(maxGapBytes);

/** Neighbours in one buffer become one vector. */
function joined(vectors: readonly Uint8Array[]): Uint8Array[] {
  const result: Uint8Array[] = [];
  for (const vector of vectors) {
    const last = result.at(-1);
    const follows = last !== undefined && last.buffer === vector.buffer && last.byteOffset + last.length === vector.byteOffset;
    if (follows) result[result.length - 1] = new Uint8Array(last.buffer, last.byteOffset, last.length + vector.length);
    else result.push(vector);
  }
  return result;
}

/** A base may be shorter than the disk: zeros behind it. */
async function readBase(base: LayerView, target: Uint8Array, offset: number, signal: AbortSignal | undefined): Promise<void> {
  const inside = Math.max(0, Math.min(target.length, base.sizeBytes - offset));
  if (inside < target.length) target.fill(0, inside);
  if (inside > 0) await base.read(target.subarray(0, inside), offset, signal);
}

function readBaseNow(base: LayerView, target: Uint8Array, offset: number): boolean {
  const inside = Math.max(0, Math.min(target.length, base.sizeBytes - offset));
  if (inside < target.length) target.fill(0, inside);
  return inside === 0 || base.readNow(inside < target.length ? target.subarray(0, inside) : target, offset);
}

async function baseExtents(
  base: LayerView,
  offset: number,
  end: number,
  maxRuns: number,
  signal: AbortSignal | undefined,
): Promise<Extent[]> {
  if (offset >= base.sizeBytes) return [{ length: end - offset, hole: true, zero: true }];
  return base.extents(offset, Math.min(end, base.sizeBytes) - offset, maxRuns, signal);
}

function untouchedUntil(stack: Stack, offset: number, limit: number): number {
  let group = Math.floor(offset / groupBytes);
  while (group * groupBytes < limit && !isTouched(stack, group)) group += 1;
  return Math.min(limit, group * groupBytes);
}

class NowVisitor implements RunVisitor {
  isComplete = true;
  readonly #target: Uint8Array;
  readonly #offset: number;
  readonly #base: LayerView;
  readonly #written: WrittenCache;

  constructor(target: Uint8Array, offset: number, base: LayerView, written: WrittenCache) {
    this.#target = target;
    this.#offset = offset;
    this.#base = base;
    this.#written = written;
  }

  base(offset: number, end: number): void {
    if (!this.isComplete) return;
    const isAll = end - offset === this.#target.length;
    const part = isAll ? this.#target : this.#target.subarray(offset - this.#offset, end - this.#offset);
    this.isComplete = readBaseNow(this.#base, part, offset);
  }

  zeros(offset: number, end: number): void {
    if (this.isComplete) this.#target.fill(0, offset - this.#offset, end - this.#offset);
  }

  sector(offset: number, end: number): void {
    this.isComplete &&= this.#written.copy(this.#target, offset - this.#offset, offset, end);
  }
}

/** Fills what is in memory, and collects what is to be read. */
class PlanVisitor implements RunVisitor {
  readonly baseRanges: [number, number][] = [];
  readonly runs: LogRun[] = [];
  readonly #target: Uint8Array;
  readonly #offset: number;
  readonly #written: WrittenCache;

  constructor(target: Uint8Array, offset: number, written: WrittenCache) {
    this.#target = target;
    this.#offset = offset;
    this.#written = written;
  }

  base(offset: number, end: number): void {
    const last = this.baseRanges.at(-1);
    if (last !== undefined && last[1] === offset) last[1] = end;
    else this.baseRanges.push([offset, end]);
  }

  zeros(offset: number, end: number): void {
    this.#target.fill(0, offset - this.#offset, end - this.#offset);
  }

  sector(offset: number, end: number, generation: Generation, position: number, check: number): void {
    if (this.#written.copy(this.#target, offset - this.#offset, offset, end)) return;
    const sector = { offset, end, position, check };
    const last = this.runs.at(-1);
    const goesOn =
      last !== undefined &&
      last.generation === generation &&
      position >= last.end &&
      position - last.end <= maxGapBytes &&
      position + sectorBytes - last.position <= maxRunBytes;
    if (!goesOn) {
      this.runs.push({ generation, position, end: position + sectorBytes, sectors: [sector] });
      return;
    }
    last.end = position + sectorBytes;
    last.sectors.push(sector);
  }
}

class ExtentVisitor implements RunVisitor {
  readonly #extents: Extent[];

  constructor(extents: Extent[]) {
    this.#extents = extents;
  }

  base(offset: number, end: number): void {
    addExtent(this.#extents, end - offset, false, false);
  }

  zeros(offset: number, end: number, trimmed: boolean): void {
    addExtent(this.#extents, end - offset, trimmed, true);
  }

  sector(offset: number, end: number): void {
    addExtent(this.#extents, end - offset, false, false);
  }
}
