// A source on a web server with ranges, read at any offset: parallel GETs over a bounded set of connections to the checked address, each tied to the
// version that was probed. A broken range goes on at the byte where it broke.
import { assertRange, type ByteSource } from '../platform/byte-source.ts';
import type { Response } from './wire/http-client.ts';
import { parseContentRange } from './wire/content-range.ts';
import { WireError } from './wire/wire-error.ts';
import type { SourceInfo } from './probe.ts';
import { SourceClient, type SourceClientOptions, versionHeaders } from './source-client.ts';
import { badAnswer, sourceChanged } from './source-failure.ts';

export interface RangeSourceOptions extends SourceClientOptions {
  /** Requests under way at once. A source without a validator gets one, so that its parts are at least read in order. */
  maxConnections?: number;
  /** Longer reads are cut into parts of this length, which are fetched in parallel. */
  partBytes?: number;
}

export interface RangeSource extends ByteSource {
  /** Bytes that have arrived, those of broken ranges included; the probe's are not. */
  readonly bytesFetched: number;
  readonly requestCount: number;
}

/** @param info of a probe that found ranges. Needs nothing else: made from a posted `info`, it works the same in a thread. */
export function httpRangeSource(info: SourceInfo, options: RangeSourceOptions = {}): RangeSource {
  const { sizeBytes } = info;
  if (!info.hasRanges || sizeBytes === undefined) throw new Error('a source without ranges was opened by range');
  return new HttpRangeSource(info, sizeBytes, options);
}

/**
 * On the loopback a segment holds 64 KiB, and an answer of one full and one partial segment from a server that corks its socket (nginx with
 * tcp_nopush, which many default configurations set) waits 40 ms for a delayed acknowledgement. Measured: 100,000 bytes take 41 ms, as
 * two ranges of one segment each 0.5 ms. Tables of disk images have just this size.
 */
const loopbackPartBytes = 60_000;

class HttpRangeSource implements RangeSource {
  readonly sizeBytes: number;
  readonly #info: SourceInfo;
  readonly #client: SourceClient;
  readonly #partBytes: number;
  readonly #isLoopback: boolean;

  constructor(info: SourceInfo, sizeBytes: number, options: RangeSourceOptions) {
    this.sizeBytes = sizeBytes;
    this.#info = info;
    this.#partBytes = options.partBytes ?? 8 * 1024 * 1024;
    this.#isLoopback = info.target.addresses.every((address) => address.startsWith('127.') || address === '::1');
    this.#client = new SourceClient(info, info.validator === undefined ? 1 : (options.maxConnections ?? 4), options);
  }

  get bytesFetched(): number {
    return this.#client.bytesFetched;
  }

  get requestCount(): number {
    return this.#client.requestCount;
  }

  async read(target: Uint8Array, offset: number, signal?: AbortSignal): Promise<void> {
    assertRange(this.sizeBytes, offset, target.length);
    signal?.throwIfAborted();
    if (target.length === 0) return;
    const { head } = this.#info;
    if (offset + target.length <= head.length) target.set(head.subarray(offset, offset + target.length));
    else await this.#readParts(target, offset, this.#partBytesFor(target.length), signal);
  }

  #partBytesFor(lengthBytes: number): number {
    const isStuckLength = lengthBytes > loopbackPartBytes && lengthBytes < 140_000;
    return this.#isLoopback && isStuckLength ? Math.min(loopbackPartBytes, this.#partBytes) : this.#partBytes;
  }

  /** @throws the first failure, once no part writes to `target` any longer. */
  async #readParts(target: Uint8Array, offset: number, partBytes: number, signal: AbortSignal | undefined): Promise<void> {
    if (target.length <= partBytes) return this.#readPart(target, offset, signal);
    const failed = new AbortController();
    const either = signal === undefined ? failed.signal : AbortSignal.any([failed.signal, signal]);
    const parts: Promise<void>[] = [];
    for (let at = 0; at < target.length; at += partBytes) {
      const part = this.#readPart(target.subarray(at, at + partBytes), offset + at, either);
      part.catch((error: unknown) => failed.abort(error));
      parts.push(part);
    }
    await Promise.allSettled(parts);
    either.throwIfAborted();
  }

  async #readPart(target: Uint8Array, offset: number, signal: AbortSignal | undefined): Promise<void> {
    let filled = 0;
    const headers = () => ({
      range: `bytes=${offset + filled}-${offset + target.length - 1}`,
      ...versionHeaders(this.#info),
    });
    const consume = async (response: Response): Promise<void> => {
      this.#verify(response, offset + filled, offset + target.length);
      while (filled < target.length) {
        const byteCount = await response.body.read(target.subarray(filled));
        if (byteCount === 0) throw new WireError('broken', 'the answer ended early');
        filled += byteCount;
        this.#client.bytesFetched += byteCount;
      }
      // Read on to the mark of the end, so that the connection can be used again.
      if (response.body.framing.kind === 'chunked') await response.body.read(new Uint8Array(1));
    };
    await this.#client.request(headers, consume, signal);
  }

  /** @throws DomainError unless the response is the range [start, end) of the source. */
  #verify({ head, body }: Response, start: number, end: number): void {
    const { url } = this.#client;
    if (head.status === 200) throw sourceChanged(url, 'the whole file was sent where a part was asked for');
    if (head.status === 416) throw sourceChanged(url, 'it is shorter now');
    const range = parseContentRange(head.header('content-range'));
    if (range?.sizeBytes !== undefined && range.sizeBytes !== this.sizeBytes) {
      throw sourceChanged(url, `it has ${range.sizeBytes} bytes and had ${this.sizeBytes}`);
    }
    const lengthBytes = body.framing.kind === 'length' ? body.framing.lengthBytes : end - start;
    if (range?.start !== start || range.end !== end || lengthBytes !== end - start) {
      throw badAnswer(url, `bytes ${start} to ${end - 1} were asked for and another range was sent`);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#client[Symbol.asyncDispose]();
  }
}
