// One chunk of a fold: the base's bytes, patched with what the generations hold for it, stored. Runs in whichever thread is given it.
// A block of the base is read once: it is verified by the hash that its header has, and keeps that hash when nothing is patched in it.
// What the generations have whole is not read from the base.
import { crc32 } from 'node:zlib';
import type { ChunkAddress } from '../address.ts';
import type { ChunkBuffer } from '../chunk-encoder.ts';
import type { ChunkStore } from '../chunk-store.ts';
import { readVectorsFully, readVectorsSync } from '../drivers/local/file-calls.ts';
import { blockBytes, blocksPerChunk, chunkBytes } from '../sizes.ts';
import { sectorState } from './generation-index.ts';
import { readError } from './log-file.ts';
import { positionUnit, sectorBytes } from './log-format.ts';
import { DomainError } from '../../platform/errors.ts';

export const sectorsPerChunk = chunkBytes / sectorBytes;
const sectorsPerBlock = blockBytes / sectorBytes;

/** For each of the chunk's 1024 sectors: its position in a log (in 16 bytes) or a sectorState, its CRC-32, and which log. */
export interface ChunkPatch {
  positions: Uint32Array;
  checks: Uint32Array;
  logs: Uint16Array;
}

/** A log by its file, as it is told to other threads; `title` says in messages whose it is. */
export interface FoldFile {
  file: string;
  title: string;
}

export interface FoldLog {
  descriptor: number;
  title: string;
  /** Reading it may wait for the disk in the thread that folds: random writes leave many small pieces, and each costs a call. */
  blocking?: boolean;
}

/** @param options as PutOptions. @returns undefined when the chunk is all zeros. @throws as fold */
export async function foldChunk(
  store: ChunkStore,
  chunk: ChunkBuffer,
  base: ChunkAddress | undefined,
  patch: ChunkPatch,
  logs: readonly FoldLog[],
  options: { signal: AbortSignal; onTaken?: () => void },
): Promise<ChunkAddress | undefined> {
  const { signal } = options;
  const { data } = chunk;
  let leaves: (Uint8Array | undefined)[] | undefined;
  if (base === undefined) data.fill(0);
  else leaves = await readBase(store, data, base, patch, signal);
  for (let sector = 0; sector < sectorsPerChunk;) {
    const position = patch.positions[sector]!;
    const end = runEnd(patch, sector);
    const bytes = data.subarray(sector * sectorBytes, end * sectorBytes);
    if (position >= sectorState.firstPosition) await readLog(patch, sector, bytes, logs);
    else if (position !== sectorState.absent) bytes.fill(0);
    sector = end;
  }
  signal.throwIfAborted();
  return store.store(chunk, { ...options, leaves });
}

/** @returns the hashes of the blocks in which nothing is patched. */
async function readBase(
  store: ChunkStore,
  data: Uint8Array,
  base: ChunkAddress,
  patch: ChunkPatch,
  signal: AbortSignal,
): Promise<(Uint8Array | undefined)[]> {
  const absent = Array.from({ length: blocksPerChunk }, (_, block) => absentSectors(patch, block));
  if (absent.every((count) => count === 0)) return [];
  const { leaves } = await store.readWanted(base, data, (block) => absent[block]! > 0, signal);
  return absent.map((count, block) => (count === sectorsPerBlock ? leaves.subarray(block * 32, (block + 1) * 32) : undefined));
}

/** How many sectors of a block the generations do not have. */
function absentSectors({ positions }: ChunkPatch, block: number): number {
  let count = 0;
  for (let sector = block * sectorsPerBlock; sector < (block + 1) * sectorsPerBlock; sector += 1)
    if (positions[sector] === sectorState.absent) count += 1;
  return count;
}

/** Where the run ends of sectors of one state, or that lie one after another in one log. */
function runEnd({ positions, logs }: ChunkPatch, first: number): number {
  const start = positions[first]!;
  const step = start >= sectorState.firstPosition ? sectorBytes / positionUnit : 0;
  for (let end = first + 1; end < sectorsPerChunk; end += 1)
    if (positions[end] !== start + step * (end - first) || logs[end] !== logs[first]) return end;
  return sectorsPerChunk;
}

async function readLog(patch: ChunkPatch, first: number, bytes: Uint8Array, logs: readonly FoldLog[]): Promise<void> {
  const log = logs[patch.logs[first]!]!;
  const damaged = (): Error => new DomainError('DATA_LOSS', `writes cannot be read: ${log.title} is damaged`);
  let count: number;
  try {
    const position = patch.positions[first]! * positionUnit;
    if (log.blocking) count = readVectorsSync(log.descriptor, [bytes], position);
    else count = await readVectorsFully(log.descriptor, [bytes], position);
  } catch (error) {
    throw readError(error);
  }
  if (count !== bytes.length) throw damaged();
  for (let at = 0; at < bytes.length; at += sectorBytes)
    if (crc32(bytes.subarray(at, at + sectorBytes)) !== patch.checks[first + at / sectorBytes]) throw damaged();
}
