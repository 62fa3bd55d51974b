// A source that cannot be read by ranges, or whose digest is asked for, is fetched once from its begin to its end into a temporary file.
// Nothing of it is seen before its length and its digest hold. The file is named spool-….tmp, is readable by the service alone, and goes
// when the source is disposed of; after a crash its owner may delete what is left of that name.
import { createHash, type Hash, randomBytes } from 'node:crypto';
import { type FileHandle, open, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type ByteSource } from '../platform/byte-source.ts';
import { TransientError } from '../platform/errors.ts';
import { fileSource } from './file-source.ts';
import type { Response } from './wire/http-client.ts';
import { parseContentRange } from './wire/content-range.ts';
import type { SourceInfo } from './probe.ts';
import { SourceClient, type SourceClientOptions, versionHeaders } from './source-client.ts';
import { badAnswer, sourceChanged, sourceFailed } from './source-failure.ts';
import { describeUrl, type Digest } from './source-uri.ts';

export { fileSource } from './file-source.ts';

export interface SpoolOptions extends SourceClientOptions {
  /** Exists; holds the temporary file. */
  directory: string;
  /** The longest source that is accepted. */
  maxBytes: number;
  signal?: AbortSignal | undefined;
  /** Called for about each mebibyte that is in the file. `sizeBytes` is undefined while nobody knows the length. */
  onProgress?: ((progress: { bytesDone: number; sizeBytes: number | undefined }) => void) | undefined;
  /** What all bytes must hash to; by default what the URI said. */
  digest?: Digest | undefined;
}

export interface SpooledSource extends ByteSource {
  /** Another thread may open it with `fileSource` while this source lives. */
  readonly path: string;
  /** Bytes that have arrived, those of broken attempts included. */
  readonly bytesFetched: number;
}

const blockBytes = 1024 * 1024;
/** How often a source is begun whose server cannot continue where it broke. */
const maxWholeAttempts = 4;

/**
 * @throws DomainError when the source is too large, has changed, or does not match the digest; TransientError when it breaks off again
 * and again, or when there is no room for it; signal.reason. The file is gone then.
 */
export async function spoolSource(info: SourceInfo, options: SpoolOptions): Promise<SpooledSource> {
  const download = new Download(info, options);
  if (info.sizeBytes !== undefined) await download.requireRoom(info.sizeBytes);
  const path = join(options.directory, `spool-${randomBytes(12).toString('hex')}.tmp`);
  const file = await open(path, 'wx', 0o600);
  try {
    try {
      await download.run(file);
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

class Download {
  readonly #info: SourceInfo;
  readonly #options: SpoolOptions;
  readonly #digest: Digest | undefined;
  #hash: Hash | undefined;
  /** Bytes that are in the file and in the hash. */
  #doneBytes = 0;
  /** Where attempts broke that could not be continued. */
  readonly #brokenAt: number[] = [];
  bytesFetched = 0;

  constructor(info: SourceInfo, options: SpoolOptions) {
    this.#info = info;
    this.#options = options;
    this.#digest = options.digest ?? info.digest;
  }

  /** @throws when a source of `sizeBytes` is longer than allowed, or has no room on the disk. */
  async requireRoom(sizeBytes: number): Promise<void> {
    this.#requireAllowed(sizeBytes);
    const { bavail, bsize } = await statfs(this.#options.directory);
    if (bavail * bsize < sizeBytes) throw noRoom(sizeBytes);
  }

  async run(file: FileHandle): Promise<void> {
    this.#restart();
    const { head, sizeBytes } = this.#info;
    if (sizeBytes === head.length) await this.#append(file, head);
    else await this.#fetch(file);
    // An attempt that was given up may have gone further than the one that reached the end.
    await file.truncate(this.#doneBytes);
    this.#verifyDigest();
  }

  async #fetch(file: FileHandle): Promise<void> {
    await using client = new SourceClient(this.#info, 1, this.#options);
    const headers = (): Record<string, string> => {
      const { hasRanges, validator } = this.#info;
      if (this.#doneBytes === 0) return versionHeaders(this.#info);
      if (hasRanges && validator !== undefined) return { range: `bytes=${this.#doneBytes}-`, 'if-range': validator.value };
      this.#giveUpAttempt();
      return versionHeaders(this.#info);
    };
    try {
      await client.request(headers, (response) => this.#receive(file, response, client), this.#options.signal);
    } finally {
      this.bytesFetched = client.bytesFetched;
    }
  }

  async #receive(file: FileHandle, response: Response, client: SourceClient): Promise<void> {
    const { url } = client;
    const { head, body } = response;
    const known = this.#info.sizeBytes;
    if (head.status === 416) throw sourceChanged(url, 'it is shorter now');
    if (head.status === 206) {
      const range = parseContentRange(head.header('content-range'));
      const isWanted = range?.start === this.#doneBytes && range.end === known && range.sizeBytes === known;
      if (!isWanted || this.#doneBytes === 0) throw badAnswer(url, 'another range was sent than was asked for');
    } else if (this.#doneBytes > 0) {
      this.#giveUpAttempt();
    }
    const announced = body.framing.kind === 'length' ? this.#doneBytes + body.framing.lengthBytes : undefined;
    if (announced !== undefined && announced !== (known ?? announced)) {
      throw sourceChanged(url, `it has ${announced} bytes and had ${known}`);
    }
    await this.#copy(file, response, client);
    if (known !== undefined && this.#doneBytes !== known)
      throw sourceChanged(url, `it has ${this.#doneBytes} bytes and had ${known}`);
  }

  /** Reads one block while the block before it is written. */
  async #copy(file: FileHandle, { body }: Response, client: SourceClient): Promise<void> {
    const blocks = [new Uint8Array(blockBytes), new Uint8Array(blockBytes)] as const;
    let writing: Promise<void> = Promise.resolve();
    try {
      for (let turn = 0; ; turn ^= 1) {
        const block = blocks[turn as 0 | 1];
        const byteCount = await body.read(block);
        if (byteCount === 0) break;
        client.bytesFetched += byteCount;
        await writing;
        this.#requireAllowed(this.#doneBytes + byteCount);
        writing = this.#append(file, block.subarray(0, byteCount));
        // Awaited below; until then a failure is not a stray one.
        writing.catch(() => {});
      }
    } finally {
      await writing;
    }
  }

  async #append(file: FileHandle, bytes: Uint8Array): Promise<void> {
    try {
      for (let written = 0; written < bytes.length;) {
        const rest = bytes.length - written;
        written += (await file.write(bytes, written, rest, this.#doneBytes + written)).bytesWritten;
      }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw code === 'ENOSPC' || code === 'EDQUOT' ? noRoom(this.#info.sizeBytes, error) : error;
    }
    this.#hash?.update(bytes);
    this.#doneBytes += bytes.length;
    this.#options.onProgress?.({ bytesDone: this.#doneBytes, sizeBytes: this.#info.sizeBytes });
  }

  /** @throws once this has happened too often. */
  #giveUpAttempt(): void {
    this.#brokenAt.push(this.#doneBytes);
    this.#restart();
    if (this.#brokenAt.length < maxWholeAttempts) return;
    const [first] = this.#brokenAt;
    const { target, sizeBytes } = this.#info;
    if (sizeBytes !== undefined && this.#brokenAt.every((place) => place === first)) {
      throw badAnswer(target, `${sizeBytes} bytes were announced and only ${first} were sent, ${maxWholeAttempts} times alike`);
    }
    throw new TransientError(
      `Source ${describeUrl(target)} broke off ${maxWholeAttempts} times, and its server cannot continue a download; try again later`,
    );
  }

  /** From the first byte: what is in the file is written over. */
  #restart(): void {
    this.#doneBytes = 0;
    this.#hash = this.#digest === undefined ? undefined : createHash(this.#digest.algorithm);
  }

  #requireAllowed(sizeBytes: number): void {
    const { maxBytes } = this.#options;
    if (sizeBytes <= maxBytes) return;
    const size = sizeBytes === this.#info.sizeBytes ? `${sizeBytes} bytes long` : 'longer';
    throw sourceFailed(
      'SOURCE_TOO_LARGE',
      `Source ${describeUrl(this.#info.target)} is ${size}; at most ${maxBytes} bytes are accepted`,
    );
  }

  #verifyDigest(): void {
    if (this.#digest === undefined || this.#hash === undefined) return;
    const { algorithm, hex } = this.#digest;
    const actual = this.#hash.digest('hex');
    if (actual === hex) return;
    throw sourceFailed(
      'SOURCE_DIGEST_MISMATCH',
      `Source ${describeUrl(this.#info.target)} has the ${algorithm} ${actual}, and the URI asks for ${hex}: the file is not the expected one`,
    );
  }
}

const noRoom = (sizeBytes: number | undefined, cause?: unknown): TransientError =>
  new TransientError(
    `The service has no room for a temporary copy of the source${sizeBytes === undefined ? '' : ` (${sizeBytes} bytes)`}; ` +
      'a server with range requests needs none',
    { cause },
  );
