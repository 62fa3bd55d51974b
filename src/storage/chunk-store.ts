// Chunks in a blob store: put once whoever brings them, read in part, never answered unverified.
import { assertRange } from '../platform/byte-source.ts';
import type { ChunkAddress } from './address.ts';
import type { Admission } from './admission.ts';
import type { BlobStore, PutOptions } from './blob-store.ts';
import { type ChunkBuffer, type EncodedChunk, type Packing, encodeChunk } from './chunk-encoder.ts';
import { type ChunkHeader, decodeBlock, encoding, headerBytes, parseChunkHeader } from './chunk-format.ts';
import { ChunkCorruptError, CorruptMarks, Damage, type OnCorrupt, asDamage } from './damage.ts';
import { Deposit } from './deposit.ts';
import { type HashAlgorithm, sha256 } from './hash-algorithm.ts';
import { Lru } from './lru.ts';
import { chunkKey } from './paths.ts';
import { fingerprint } from './reading/fingerprint.ts';
import { blockBytes, blocksPerChunk, chunkBytes } from './sizes.ts';
import { settleAll, untilAborted } from '../platform/until-aborted.ts';

export interface ChunkStoreOptions {
  blobs: BlobStore;
  hash?: HashAlgorithm | undefined;
  admission?: Admission | undefined;
  onCorrupt?: OnCorrupt | undefined;
  packing?: Packing | undefined;
  /** As PutOptions, of chunks that are put. */
  warm?: boolean | undefined;
  /** readBlocks may wait for the disk in the thread that calls it: for threads that have nothing else to do. */
  blockingReads?: boolean | undefined;
  /** Headers that are kept, about 3 KiB each. */
  cachedHeaders?: number | undefined;
  /** Verified blocks that are kept because a read wanted only a part of them, bytes. */
  cachedBlockBytes?: number | undefined;
}

/** Stored blocks that are fetched by one request are neighbours and at most this much together. */
const maxRequestBytes = 1024 * 1024;

export class ChunkStore {
  readonly #blobs: BlobStore;
  readonly #hash: HashAlgorithm;
  readonly #packing: Packing | undefined;
  readonly #blockingReads: boolean;
  readonly #marks: CorruptMarks;
  readonly #deposit: Deposit;
  readonly #headers: Lru<ChunkHeader>;
  readonly #headersUnderWay = new Map<string, Promise<ChunkHeader>>();
  readonly #blocks: Lru<Uint8Array>;
  readonly #blocksUnderWay = new Map<string, Promise<Uint8Array>>();

  constructor(options: ChunkStoreOptions) {
    this.#blobs = options.blobs;
    this.#hash = options.hash ?? sha256;
    this.#packing = options.packing;
    this.#blockingReads = options.blockingReads ?? false;
    this.#marks = new CorruptMarks(options.blobs, options.onCorrupt ?? (() => undefined));
    this.#headers = new Lru(options.cachedHeaders ?? 1024);
    this.#blocks = new Lru(options.cachedBlockBytes ?? 32 * 1024 * 1024, (block) => block.length);
    const parts = { blobs: options.blobs, marks: this.#marks, admission: options.admission, warm: options.warm };
    this.#deposit = new Deposit('chunks', parts, (address, sizeBytes) => this.#looksWhole(address as ChunkAddress, sizeBytes));
  }

  /** encodeChunk with this store's hash and packing: synchronous, for worker threads. */
  encode(source: Uint8Array | ChunkBuffer, leaves?: KnownLeaves): EncodedChunk | undefined {
    return encodeChunk(source, { hash: this.#hash, packing: this.#packing, leaves });
  }

  /**
   * Durable when it resolves; true when the chunk was written, false when the store held it. The caller is registered as a writer
   * (admission.ts). @throws TransientError when the store is full or away; signal.reason when aborted.
   */
  async put(chunk: EncodedChunk, options?: Pick<PutOptions, 'signal' | 'onTaken'>): Promise<boolean> {
    const written = await this.#deposit.put(chunk, options);
    if (written) this.#headers.delete(chunk.address);
    return written;
  }

  /** Encodes and puts 4 MiB; undefined when they are all zero and nothing is stored. */
  async store(
    source: Uint8Array | ChunkBuffer,
    { leaves, ...options }: Pick<PutOptions, 'signal' | 'onTaken'> & { leaves?: KnownLeaves | undefined } = {},
  ): Promise<ChunkAddress | undefined> {
    const chunk = this.encode(source, leaves);
    if (chunk !== undefined) await this.put(chunk, options);
    return chunk?.address;
  }

  /**
   * Fills `target` with the chunk's guest bytes from `offset` on, each verified. Every read into `target` has ended when it settles.
   * @throws ChunkCorruptError when the object is damaged or missing; TransientError when the store is away.
   */
  async read(address: ChunkAddress, target: Uint8Array, offset: number, signal?: AbortSignal): Promise<void> {
    assertRange(chunkBytes, offset, target.length);
    signal?.throwIfAborted();
    if (target.length === 0) return;
    await this.#twice(address, (fresh) => this.#readOnce(address, target, offset, { fresh, signal }));
  }

  /** The chunk's header, verified. @throws as read */
  async header(address: ChunkAddress, signal?: AbortSignal): Promise<ChunkHeader> {
    const cached = this.#headers.get(address);
    if (cached !== undefined) return cached;
    let header: ChunkHeader | undefined;
    await this.#twice(address, async (fresh) => void (header = await this.#header(address, { fresh, signal })));
    return header!;
  }

  /**
   * Fills the targets, 64 KiB each, with the blocks from `first` on, each verified; for caches, past this store's own. `checks` holds
   * a fingerprint for each of the chunk's 64 blocks, or 0 where none is known: a block that matches it was verified by its hash before,
   * and is not hashed again. What is verified by its hash is entered. @throws as read
   */
  async readBlocks(
    address: ChunkAddress,
    first: number,
    targets: readonly Uint8Array[],
    checks: Float64Array,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#twice(address, async (fresh) => {
      const header = await this.#header(address, { fresh, signal });
      await this.#readBlocksOnce(address, header, first, targets, checks, { fresh, signal, blocking: this.#blockingReads });
    });
  }

  /**
   * Fills the chunk's 4 MiB where `wants` says so of a block, each block verified; the rest of `target` is left as it is. Past this store's
   * caches of blocks. @returns the header: what the blocks were verified by. @throws as read
   */
  async readWanted(
    address: ChunkAddress,
    target: Uint8Array,
    wants: (block: number) => boolean,
    signal?: AbortSignal,
  ): Promise<ChunkHeader> {
    assertRange(target.length, 0, chunkBytes);
    let header: ChunkHeader | undefined;
    await this.#twice(address, async (fresh) => {
      const how = { fresh, signal };
      const found = await this.#header(address, how);
      const reads: Promise<void>[] = [];
      for (const [first, end] of runsOfOneKind(found, wants)) {
        const targets: Uint8Array[] = [];
        for (let index = first; index < end; index += 1)
          targets.push(target.subarray(index * blockBytes, (index + 1) * blockBytes));
        reads.push(this.#readBlocksOnce(address, found, first, targets, undefined, how));
      }
      await settleAll(reads);
      header = found;
    });
    return header!;
  }

  async #readBlocksOnce(
    address: ChunkAddress,
    header: ChunkHeader,
    first: number,
    targets: readonly Uint8Array[],
    checks: Float64Array | undefined,
    how: How,
  ): Promise<void> {
    const start = header.offsets[first]!;
    const length = header.offsets[first + targets.length]! - start;
    const key = chunkKey(address);
    const isRaw = length === targets.length * blockBytes;
    let stored: Uint8Array | undefined;
    if (isRaw && this.#blobs.readInto !== undefined) await this.#blobs.readInto(key, start, targets, how);
    else stored = length === 0 ? noBytes : await this.#blobs.get(key, { offset: start, length }, how);
    for (const [at, target] of targets.entries()) {
      const index = first + at;
      if (stored !== undefined) {
        const part = stored.subarray(header.offsets[index]! - start, header.offsets[index + 1]! - start);
        target.set(decodeBlock(header, index, part, this.#hash));
        continue;
      }
      const found = checks === undefined ? 0 : fingerprint(target);
      if (found === 0 || found !== checks![index]) decodeBlock(header, index, target, this.#hash);
      if (checks !== undefined) checks[index] = found;
    }
  }

  /**
   * Reads and verifies the whole object past every cache. @returns its size; undefined when there is no such object.
   * @throws ChunkCorruptError when it is damaged, or missing though `required`; TransientError when the store is away.
   */
  async verify(address: ChunkAddress, signal?: AbortSignal, required = false): Promise<number | undefined> {
    let sizeBytes: number | undefined;
    await this.#twice(address, async () => {
      this.#forget(address);
      sizeBytes = (await this.#blobs.stat(chunkKey(address)))?.sizeBytes;
      if (sizeBytes === undefined && required) throw new Damage('it is missing', true);
      if (sizeBytes === undefined) return;
      await this.#readOnce(address, new Uint8Array(chunkBytes), 0, { fresh: true, signal });
      const header = await this.#header(address, { fresh: false, signal });
      if (sizeBytes !== headerBytes + header.payloadBytes) throw new Damage('its length is not what its header says');
    });
    return sizeBytes;
  }

  /** Bytes that do not fit may be of an object that was replaced meanwhile, or of a cache: only what is wrong twice is damaged. */
  async #twice(address: ChunkAddress, read: (fresh: boolean) => Promise<void>): Promise<void> {
    try {
      return await read(false);
    } catch (error) {
      if (asDamage(error) === undefined) throw error;
    }
    try {
      await read(true);
    } catch (error) {
      const damage = asDamage(error);
      if (damage === undefined) throw error;
      this.#forget(address);
      await this.#marks.report('chunks', address, damage);
      throw new ChunkCorruptError(address, damage.message);
    }
  }

  #forget(address: ChunkAddress): void {
    this.#headers.delete(address);
  }

  async #readOnce(address: ChunkAddress, target: Uint8Array, offset: number, how: How): Promise<void> {
    const header = await this.#header(address, how);
    const first = Math.floor(offset / blockBytes);
    const end = Math.ceil((offset + target.length) / blockBytes);
    const reads: Promise<void>[] = [];
    for (let index = first; index < end;) {
      const runEnd = runOfWholeBlocks(header, index, offset, target.length);
      reads.push(
        runEnd > index
          ? this.#readRun(address, header, { index, end: runEnd }, target, offset, how)
          : this.#readPart(address, header, index, target, offset, how),
      );
      index = Math.max(runEnd, index + 1);
    }
    await settleAll(reads);
  }

  /** Blocks that the target takes whole: fetched together, verified one by one, not kept. */
  async #readRun(
    address: ChunkAddress,
    header: ChunkHeader,
    run: { index: number; end: number },
    target: Uint8Array,
    offset: number,
    how: How,
  ): Promise<void> {
    const start = header.offsets[run.index]!;
    const length = header.offsets[run.end]! - start;
    const stored = length === 0 ? noBytes : await this.#blobs.get(chunkKey(address), { offset: start, length }, how);
    for (let index = run.index; index < run.end; index += 1) {
      const part = stored.subarray(header.offsets[index]! - start, header.offsets[index + 1]! - start);
      target.set(decodeBlock(header, index, part, this.#hash), index * blockBytes - offset);
    }
  }

  /** A part of one block: the whole block is fetched, verified and kept for the reads that follow. */
  async #readPart(
    address: ChunkAddress,
    header: ChunkHeader,
    index: number,
    target: Uint8Array,
    offset: number,
    how: How,
  ): Promise<void> {
    const block = await this.#block(address, header, index, how);
    const from = Math.max(0, offset - index * blockBytes);
    const to = Math.min(blockBytes, offset + target.length - index * blockBytes);
    target.set(block.subarray(from, to), index * blockBytes + from - offset);
  }

  async #block(address: ChunkAddress, header: ChunkHeader, index: number, how: How): Promise<Uint8Array> {
    if (header.encodings[index] === encoding.zero) return decodeBlock(header, index, noBytes, this.#hash);
    const name = `${address}/${index}`;
    const cached = this.#blocks.get(name);
    if (cached !== undefined) return cached;
    const fetchBlock = async () => {
      const offset = header.offsets[index]!;
      const range = { offset, length: header.offsets[index + 1]! - offset };
      const block = decodeBlock(header, index, await this.#blobs.get(chunkKey(address), range, { fresh: how.fresh }), this.#hash);
      this.#blocks.set(name, block);
      return block;
    };
    return shared(this.#blocksUnderWay, name, fetchBlock, how);
  }

  async #header(address: ChunkAddress, how: How): Promise<ChunkHeader> {
    const cached = how.fresh ? undefined : this.#headers.get(address);
    if (cached !== undefined) return cached;
    const fetchHeader = async () => {
      const range = { offset: 0, length: headerBytes };
      const bytes = await this.#blobs.get(chunkKey(address), range, { fresh: how.fresh });
      const header = parseChunkHeader(bytes, address, this.#hash);
      this.#headers.set(address, header);
      return header;
    };
    return shared(this.#headersUnderWay, address, fetchHeader, how);
  }

  /** Whether a put may rely on an object that exists, as far as its header and its size can tell. */
  async #looksWhole(address: ChunkAddress, sizeBytes: number): Promise<boolean> {
    try {
      return (await this.#header(address, { fresh: true })).payloadBytes + headerBytes === sizeBytes;
    } catch (error) {
      if (asDamage(error) === undefined) throw error;
      return false;
    }
  }
}

/** As EncodeOptions.leaves. */
export type KnownLeaves = readonly (Uint8Array | undefined)[];

/** Stretches of wanted blocks that are stored in the same way. */
function* runsOfOneKind(header: ChunkHeader, wants: (block: number) => boolean): Generator<[first: number, end: number]> {
  for (let first = 0; first < blocksPerChunk;) {
    let end = first + 1;
    if (wants(first)) {
      while (end < blocksPerChunk && header.encodings[end] === header.encodings[first] && wants(end)) end += 1;
      yield [first, end];
    }
    first = end;
  }
}

interface How {
  fresh: boolean;
  blocking?: boolean;
  signal?: AbortSignal | undefined;
}

const noBytes = new Uint8Array(0);

/** Where the run of blocks ends that begins at `first` and lies whole in [offset, offset + length); `first` when that block does not. */
function runOfWholeBlocks(header: ChunkHeader, first: number, offset: number, length: number): number {
  if (first * blockBytes < offset) return first;
  let end = first;
  while (
    (end + 1) * blockBytes <= offset + length &&
    (end === first || header.offsets[end + 1]! - header.offsets[first]! <= maxRequestBytes)
  )
    end += 1;
  return end;
}

/** One fetch for all that ask at the same time; a fresh one is never shared with a reader that was given wrong bytes by it. */
function shared<T>(underWay: Map<string, Promise<T>>, name: string, fetch: () => Promise<T>, how: How): Promise<T> {
  const running = how.fresh ? undefined : underWay.get(name);
  if (running !== undefined) return untilAborted(running, how.signal);
  const started = fetch().finally(() => {
    if (underWay.get(name) === started) underWay.delete(name);
  });
  underWay.set(name, started);
  return untilAborted(started, how.signal);
}
