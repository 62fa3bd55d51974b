// Which chunks generations have touched, ascending, and what they hold for one. Long stretches of zeros touch only what the base has
// stored below them, so that trimming a huge disk is folded in the time that its data takes.
import { chunkBytes } from '../sizes.ts';
import type { Layer } from '../layers.ts';
import { type ChunkPatch, sectorsPerChunk } from './fold-chunk.ts';
import type { Generation } from './generation.ts';
import { groupBytes, sectorState, sectorsPerGroup, wholeGroup } from './generation-index.ts';

const groupsPerChunk = chunkBytes / groupBytes;

/** Chunks that hold a listed group, or an end of a stretch of zeros. */
export function listedChunks(generations: readonly Generation[]): number[] {
  const chunks = new Set<number>();
  for (const { index } of generations) {
    for (const group of index.groups()) chunks.add(Math.floor(group / groupsPerChunk));
    for (const [start, end] of index.stretches()) {
      chunks.add(Math.floor(start / groupsPerChunk));
      chunks.add(Math.floor((end - 1) / groupsPerChunk));
    }
  }
  return [...chunks].sort((a, b) => a - b);
}

/** Chunks of the base, from `from` on, that lie whole in a stretch of zeros of any generation; ascending, some perhaps twice. */
async function* zeroedChunks(
  generations: readonly Generation[],
  base: Layer | undefined,
  from: number,
  signal: AbortSignal,
): AsyncGenerator<number> {
  if (base === undefined) return;
  for (const [start, end] of wholeChunkStretches(generations)) {
    if (end <= from) continue;
    for await (const [index] of base.entries(Math.max(start, from), signal)) {
      signal.throwIfAborted();
      if (index >= end) break;
      yield index;
    }
  }
}

/** The stretches of all generations together, joined, as ranges of chunks. */
function wholeChunkStretches(generations: readonly Generation[]): [start: number, end: number][] {
  const all: [number, number][] = [];
  for (const { index } of generations)
    for (const [start, end] of index.stretches()) {
      const range: [number, number] = [Math.ceil(start / groupsPerChunk), Math.floor(end / groupsPerChunk)];
      if (range[0] < range[1]) all.push(range);
    }
  const joined: [number, number][] = [];
  for (const range of all.sort(([a], [b]) => a - b)) {
    const last = joined.at(-1);
    if (last !== undefined && range[0] <= last[1]) last[1] = Math.max(last[1], range[1]);
    else joined.push(range);
  }
  return joined;
}

/** Every chunk from `from` on that a fold has to look at, ascending, each once. */
export async function* touchedChunks(
  generations: readonly Generation[],
  listed: readonly number[],
  base: Layer | undefined,
  from: number,
  signal: AbortSignal,
): AsyncGenerator<number> {
  let next = listed.findIndex((index) => index >= from);
  if (next === -1) next = listed.length;
  for await (const zeroed of zeroedChunks(generations, base, from, signal)) {
    while (next < listed.length && listed[next]! < zeroed) yield listed[next++]!;
    if (listed[next] === zeroed) next += 1;
    yield zeroed;
  }
  for (; next < listed.length; next += 1) yield listed[next]!;
}

/** What the generations hold for a chunk together. */
export function patchOf(generations: readonly Generation[], chunk: number): ChunkPatch {
  const patch: ChunkPatch = {
    positions: new Uint32Array(sectorsPerChunk),
    checks: new Uint32Array(sectorsPerChunk),
    logs: new Uint16Array(sectorsPerChunk),
  };
  for (const [log, { index }] of generations.entries())
    for (let at = 0; at < groupsPerChunk; at += 1) {
      const slot = index.find(chunk * groupsPerChunk + at);
      const first = at * sectorsPerGroup;
      if (slot === wholeGroup.absent) continue;
      if (slot < 0) patch.positions.fill(sectorState.zeros, first, first + sectorsPerGroup);
      else
        for (let sector = 0; sector < sectorsPerGroup; sector += 1) {
          const position = index.position(slot, sector);
          if (position === sectorState.absent) continue;
          patch.positions[first + sector] = position;
          patch.checks[first + sector] = index.check(slot, sector);
          patch.logs[first + sector] = log;
        }
    }
  return patch;
}
