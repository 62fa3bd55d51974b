// A generation: one append-only log file of writes above a disk's base (log-format.ts), and its index in memory. It is written by one
// WritableOverlay, sealed at a length, and never read beyond it.
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { syncFolder } from '../../platform/durable-file.ts';
import {
  closeFile,
  dataSync,
  openFile,
  readVectorsFully,
  statOpen,
  unlinkFile,
  writeAsMuch,
} from '../drivers/local/file-calls.ts';
import { codeOf, isMissing } from '../drivers/local/file-errors.ts';
import { LogDamagedError, OverlayFailedError } from './errors.ts';
import type { GenerationIndex } from './generation-index.ts';
import { readError, writeError } from './log-file.ts';
import { type LogHeader, encodeLogHeader, logHeaderBytes, parseLogHeader } from './log-format.ts';
import { OpenLog } from './open-log.ts';
import { type ReplayOptions, replaySealed, replayUnsealed } from './replay.ts';

export interface GenerationName {
  /** At most 64 characters of ASCII. */
  diskId: string;
  /** Ascending: later generations lie above earlier ones. */
  generation: number;
}

/** A log that can be read. Disposing closes the file; whoever gives it to an overlay leaves that to the overlay. */
export interface Generation extends AsyncDisposable {
  readonly name: GenerationName;
  readonly file: string;
  /** The log's length, bytes: of a sealed generation the one that was sealed, of an open one what was appended so far. */
  readonly lengthBytes: number;
  /** Memory that the index takes, bytes, about. */
  readonly indexBytes: number;
  /** For the readers of this folder. */
  readonly index: GenerationIndex;
  readonly descriptor: number;
}

/** A log that is appended to, by the WritableOverlay that it is given to. */
export interface OpenGeneration extends Generation {
  /** Bytes of the log that were synced. */
  readonly durableBytes: number;
}

/**
 * Makes the log's file, mode 0600; it and its name are durable when it resolves, so make it before the row that names it. `sizeBytes` is
 * the disk's size, for the record.
 * @throws EEXIST when there is a file; OverlayFullError when the disk is full.
 */
export async function createGeneration(file: string, name: GenerationName, sizeBytes: number): Promise<OpenGeneration> {
  const salt = randomBytes(4).readUInt32LE();
  const bytes = encodeLogHeader({ ...name, sizeBytes, createdAtMs: Date.now(), salt });
  const header = parseLogHeader(bytes)!;
  const { O_RDWR, O_CREAT, O_EXCL } = fs.constants;
  const descriptor = await openFile(file, O_RDWR | O_CREAT | O_EXCL, 0o600).catch((error: unknown) => {
    throw codeOf(error) === 'ENOSPC' || codeOf(error) === 'EDQUOT' ? writeError(error) : error;
  });
  try {
    const { error } = await writeAsMuch(descriptor, [bytes], 0);
    if (error !== undefined) throw writeError(error);
    await dataSync(descriptor);
    await syncFolder(path.dirname(file));
    return new OpenLog(name, file, descriptor, header);
  } catch (error) {
    await closeFile(descriptor);
    await unlinkFile(file).catch(() => undefined);
    throw error;
  }
}

/**
 * Opens a log that was sealed at `lengthBytes`; reads its headers. Payload is verified when it is read.
 * @throws DomainError DATA_LOSS when the file is missing, short, of another disk or generation, or its headers are damaged.
 */
export function openSealedGeneration(
  file: string,
  name: GenerationName,
  lengthBytes: number,
  signal?: AbortSignal,
): Promise<Generation> {
  return withFile(file, name, fs.constants.O_RDONLY, async (descriptor, header, sizeBytes) => {
    if (sizeBytes < lengthBytes) throw new LogDamagedError(name, `it has ${sizeBytes} bytes of ${lengthBytes}`);
    return { index: await replaySealed({ name, descriptor, header, lengthBytes, signal }), lengthBytes };
  });
}

/**
 * Opens the log of a writer that died, or was fenced off: reads all of it, finds its end (the first record that is torn or does not
 * follow), and makes it durable. Its `lengthBytes` is what to seal it at; what lies behind that is left as it is.
 * @throws DomainError DATA_LOSS when the file is missing or of another disk, or when bytes are damaged that were synced before (a
 *   later record proves it). OverlayFailedError, OverlayFullError when it cannot be made durable: nothing of it may be sealed then.
 */
export function recoverGeneration(file: string, name: GenerationName, signal?: AbortSignal): Promise<Generation> {
  return withFile(file, name, fs.constants.O_RDWR, async (descriptor, header, sizeBytes) => {
    const options: ReplayOptions = { name, descriptor, header, lengthBytes: sizeBytes, signal };
    const recovered = await replayUnsealed(options);
    const { lengthBytes, provenBytes } = recovered;
    if (provenBytes === lengthBytes) return recovered;
    // A sync counts for what is dirty alone. What an earlier sync failed to write may be clean in memory, and not on the disk: so it is
    // written again, and looked at again, since what was only in memory may have gone meanwhile.
    await writeAgain(descriptor, provenBytes, lengthBytes, signal);
    try {
      await dataSync(descriptor);
    } catch (error) {
      throw new OverlayFailedError('syncing the log of a disk failed', { cause: error });
    }
    return replayUnsealed({ ...options, lengthBytes }, provenBytes);
  });
}

async function writeAgain(descriptor: number, from: number, end: number, signal: AbortSignal | undefined): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(writtenAgainBytes, end - from));
  for (let position = from; position < end;) {
    signal?.throwIfAborted();
    const piece = buffer.subarray(0, Math.min(buffer.length, end - position));
    const count = await readVectorsFully(descriptor, [piece], position).catch((error: unknown) => {
      throw readError(error);
    });
    const { error } = await writeAsMuch(descriptor, [piece.subarray(0, count)], position);
    if (error !== undefined) throw writeError(error);
    if (count < piece.length) return;
    position += count;
  }
}

const writtenAgainBytes = 1024 * 1024;

async function withFile(
  file: string,
  name: GenerationName,
  flags: number,
  replay: (descriptor: number, header: LogHeader, sizeBytes: number) => Promise<{ index: GenerationIndex; lengthBytes: number }>,
): Promise<Generation> {
  const descriptor = await openFile(file, flags, 0).catch((error: unknown) => {
    throw isMissing(error) ? new LogDamagedError(name, 'its file is missing') : readError(error);
  });
  try {
    const sizeBytes = await sizeOf(descriptor);
    const { index, lengthBytes } = await replay(descriptor, await headerOf(descriptor, name), sizeBytes);
    return {
      name,
      file,
      descriptor,
      index,
      lengthBytes,
      get indexBytes() {
        return index.memoryBytes;
      },
      [Symbol.asyncDispose]: () => closeFile(descriptor),
    };
  } catch (error) {
    await closeFile(descriptor);
    throw error;
  }
}

const sizeOf = async (descriptor: number): Promise<number> => (await statOpen(descriptor)).size;

async function headerOf(descriptor: number, name: GenerationName): Promise<LogHeader> {
  const bytes = Buffer.alloc(logHeaderBytes);
  try {
    await readVectorsFully(descriptor, [bytes], 0);
  } catch (error) {
    throw readError(error);
  }
  const header = parseLogHeader(bytes);
  if (header === undefined) throw new LogDamagedError(name, 'its header is not whole');
  if (header.diskId !== name.diskId || header.generation !== name.generation)
    throw new LogDamagedError(name, `its file holds generation ${header.generation} of disk ${header.diskId}`);
  return header;
}
