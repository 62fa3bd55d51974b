// A source that cannot be read by ranges, or whose digest is asked for, is fetched once from its begin to its end into a temporary file.
// Nothing of it is seen before its length and its digest hold. The file is named spool-….tmp, is readable by the service alone, and goes
// when the source is disposed of; after a crash its owner may delete what is left of that name.
import { randomBytes } from 'node:crypto';
import { type FileHandle, open, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type ByteSource } from '../platform/byte-source.ts';
import { TransientError } from '../platform/errors.ts';
import { type ByteSink, Download, type DownloadOptions } from './download.ts';
import { fileSource } from './file-source.ts';
import type { SourceInfo } from './probe.ts';

export { fileSource } from './file-source.ts';

export interface SpoolOptions extends DownloadOptions {
  /** Exists; holds the temporary file. */
  directory: string;
}

export interface SpooledSource extends ByteSource {
  /** Another thread may open it with `fileSource` while this source lives. */
  readonly path: string;
  /** Bytes that have arrived, those of broken attempts included. */
  readonly bytesFetched: number;
}

/**
 * @throws DomainError when the source is too large, has changed, or does not match the digest; TransientError when it breaks off again
 * and again, or when there is no room for it; signal.reason. The file is gone then.
 */
export async function spoolSource(info: SourceInfo, options: SpoolOptions): Promise<SpooledSource> {
  if (info.sizeBytes !== undefined && info.sizeBytes <= options.maxBytes) await requireRoom(info.sizeBytes, options.directory);
  const path = join(options.directory, `spool-${randomBytes(12).toString('hex')}.tmp`);
  const file = await open(path, 'wx', 0o600);
  const download = new Download(info, fileSink(file, info.sizeBytes), options);
  try {
    try {
      // An attempt that was given up may have gone further than the one that reached the end.
      await file.truncate(await download.run());
    } finally {
      await file.close();
    }
    const source = await fileSource(path);
    const dispose = async () => {
      await source[Symbol.asyncDispose]();
      await unlink(path);
    };
    const { sizeBytes } = source;
    return { sizeBytes, path, bytesFetched: download.bytesFetched, read: source.read, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await unlink(path);
    throw error;
  }
}

async function requireRoom(sizeBytes: number, directory: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  if (bavail * bsize < sizeBytes) throw noRoom(sizeBytes);
}

const fileSink = (file: FileHandle, sizeBytes: number | undefined): ByteSink => ({
  async write(bytes, position) {
    try {
      for (let written = 0; written < bytes.length;) {
        written += (await file.write(bytes, written, bytes.length - written, position + written)).bytesWritten;
      }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw code === 'ENOSPC' || code === 'EDQUOT' ? noRoom(sizeBytes, error) : error;
    }
  },
});

const noRoom = (sizeBytes: number | undefined, cause?: unknown): TransientError =>
  new TransientError(
    `The service has no room for a temporary copy of the source${sizeBytes === undefined ? '' : ` (${sizeBytes} bytes)`}; ` +
      'a server with range requests needs none',
    { cause },
  );
