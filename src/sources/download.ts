// A source read once, from its begin to its end: what can be done with every server. Where the server can, a broken download goes on at
// the byte where it broke; where it cannot, the source is begun anew, a few times at most.
import { createHash, type Hash } from 'node:crypto';
import { TransientError } from '../platform/errors.ts';
import type { Response } from './wire/http-client.ts';
import { parseContentRange } from './wire/content-range.ts';
import type { SourceInfo } from './probe.ts';
import { SourceClient, type SourceClientOptions, versionHeaders } from './source-client.ts';
import { badAnswer, sourceChanged, sourceFailed } from './source-failure.ts';
import { describeUrl, type Digest } from './source-uri.ts';

/** Where the bytes of a source go. */
export interface ByteSink {
  /**
   * Bytes [position, position + length), right after those of the call before; at position 0 all that came before is void. One call at
   * a time; the bytes are the sink's until it resolves.
   */
  write(bytes: Uint8Array, position: number): Promise<void>;
}

export interface DownloadOptions extends SourceClientOptions {
  /** The longest source that is accepted. */
  maxBytes: number;
  signal?: AbortSignal | undefined;
  /** Called for about each mebibyte that is in the sink. `sizeBytes` is undefined while nobody knows the length. */
  onProgress?: ((progress: { bytesDone: number; sizeBytes: number | undefined }) => void) | undefined;
  /** What all bytes must hash to; by default what the URI said. */
  digest?: Digest | undefined;
}

const blockBytes = 1024 * 1024;
/** How often a source is begun whose server cannot continue where it broke. */
const maxWholeAttempts = 4;

/**
 * Answers how many bytes the source had; all of them are in the sink then, and hash to the digest.
 * @throws DomainError when the source is too large, has changed, or does not match the digest; TransientError when it breaks off again
 * and again; what the sink throws; signal.reason.
 */
export const readThrough = (info: SourceInfo, sink: ByteSink, options: DownloadOptions): Promise<number> =>
  new Download(info, sink, options).run();

/** One source, read once through. Internal to readThrough and the spool. */
export class Download {
  readonly #info: SourceInfo;
  readonly #sink: ByteSink;
  readonly #options: DownloadOptions;
  readonly #digest: Digest | undefined;
  #hash: Hash | undefined;
  /** Bytes that are in the sink and in the hash. */
  #doneBytes = 0;
  /** Where attempts broke that could not be continued. */
  readonly #brokenAt: number[] = [];
  bytesFetched = 0;

  constructor(info: SourceInfo, sink: ByteSink, options: DownloadOptions) {
    this.#info = info;
    this.#sink = sink;
    this.#options = options;
    this.#digest = options.digest ?? info.digest;
  }

  /** Answers how long the source is. */
  async run(): Promise<number> {
    this.#restart();
    const { head, sizeBytes } = this.#info;
    if (sizeBytes !== undefined) this.#requireAllowed(sizeBytes);
    if (sizeBytes === head.length) await this.#append(head);
    else await this.#fetch();
    this.#verifyDigest();
    return this.#doneBytes;
  }

  async #fetch(): Promise<void> {
    await using client = new SourceClient(this.#info, 1, this.#options);
    const headers = (): Record<string, string> => {
      const { hasRanges, validator } = this.#info;
      if (this.#doneBytes === 0) return versionHeaders(this.#info);
      if (hasRanges && validator !== undefined) return { range: `bytes=${this.#doneBytes}-`, 'if-range': validator.value };
      this.#giveUpAttempt();
      return versionHeaders(this.#info);
    };
    try {
      await client.request(headers, (response) => this.#receive(response, client), this.#options.signal);
    } finally {
      this.bytesFetched = client.bytesFetched;
    }
  }

  async #receive(response: Response, client: SourceClient): Promise<void> {
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
    await this.#copy(response, client);
    if (known !== undefined && this.#doneBytes !== known)
      throw sourceChanged(url, `it has ${this.#doneBytes} bytes and had ${known}`);
  }

  /** Reads one block while the block before it goes into the sink. */
  async #copy({ body }: Response, client: SourceClient): Promise<void> {
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
        writing = this.#append(block.subarray(0, byteCount));
        // Awaited below; until then a failure is not a stray one.
        writing.catch(() => {});
      }
    } finally {
      await writing;
    }
  }

  async #append(bytes: Uint8Array): Promise<void> {
    await this.#sink.write(bytes, this.#doneBytes);
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

  /** From the first byte: the sink begins anew with it. */
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
