// One chunk of a fold: the base's bytes, patched with what the generations hold for it, stored. Runs in whichever thread is given it.
import { crc32 } from 'node:zlib';
import type { ChunkAddress } from '../address.ts';
import type { ChunkBuffer } from '../chunk-encoder.ts';
import type { ChunkStore } from '../chunk-store.ts';
import { readVectorsFully } from '../drivers/local/file-calls.ts';
import { chunkBytes } from '../sizes.ts';
import { sectorState } from './generation-index.ts';
import { readError } from './log-file.ts';
import { positionUnit, sectorBytes } from './log-format.ts';
import { DomainError } from '../../platform/errors.ts';

export const sectorsPerChunk = chunkBytes / sectorBytes;

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
}

/** @returns undefined when the chunk is all zeros. @throws as fold */
export async function foldChunk(
  store: ChunkStore,
  chunk: ChunkBuffer,
  base: ChunkAddress | undefined,
  patch: ChunkPatch,
  logs: readonly FoldLog[],
  signal: AbortSignal,
): Promise<ChunkAddress | undefined> {
  const { data } = chunk;
  const isWhole = !patch.positions.includes(sectorState.absent);
  if (base === undefined) data.fill(0);
  else if (!isWhole) await store.read(base, data, 0, signal);
  for (let sector = 0; sector < sectorsPerChunk;) {
    const position = patch.positions[sector]!;
    const end = runEnd(patch, sector);
    const bytes = data.subarray(sector * sectorBytes, end * sectorBytes);
    if (position >= sectorState.firstPosition) await readLog(patch, sector, bytes, logs);
    else if (position !== sectorState.absent) bytes.fill(0);
    sector = end;
  }
  signal.throwIfAborted();
  return store.store(chunk, signal);
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
  const count = await readVectorsFully(log.descriptor, [bytes], patch.positions[first]! * positionUnit).catch(
    (error: unknown) => {
      throw readError(error);
    },
  );
  if (count !== bytes.length) throw damaged();
  for (let at = 0; at < bytes.length; at += sectorBytes)
    if (crc32(bytes.subarray(at, at + sectorBytes)) !== patch.checks[first + at / sectorBytes]) throw damaged();
}
