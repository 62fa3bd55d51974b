// Stores a source while it is read once through, chunk by chunk as it comes, without a temporary file: for files that are the guest's disk
// from their first byte on (RAW, fixed VHD). What a file is shows for sure only at its end, where a fixed VHD has its footer; so the
// last two chunks are held until then, and nothing is an image before.
//
// Memory: at most `maxBuffers` chunks, whatever the size of the source; the source waits when all of them are being stored.
import type { DiskImage, OpenLimits } from '../../formats/disk-image.ts';
import { headBytes } from '../../formats/file-edges.ts';
import { openDiskImage } from '../../formats/open.ts';
import { assertRange, type ByteSource } from '../../platform/byte-source.ts';
import type { ByteSink } from '../../sources/download.ts';
import { parseChunkAddress } from '../../storage/address.ts';
import type { LayerBuilder } from '../../storage/layers.ts';
import { chunkBytes } from '../../storage/sizes.ts';
import type { ChunkSource } from './chunk-pool.ts';

const maxBuffers = 8;
const zeroChunk = Buffer.alloc(chunkBytes);

/** The file is not its disk from the first byte on, or has more behind the disk than is held: it has to be read again, into a file. */
export class NotLinearError extends Error {
  override readonly name = 'NotLinearError';
}

export interface LinearSinkOptions {
  /** Of an empty layer; asked again when the source begins anew. */
  newBuilder: () => Promise<LayerBuilder>;
  chunks: Pick<ChunkSource, 'storeBytes'>;
  signal: AbortSignal;
}

export class LinearSink implements ByteSink {
  readonly #options: LinearSinkOptions;
  #builder: LayerBuilder | undefined;
  #head = Buffer.alloc(0);
  #sizeBytes = 0;
  /** Of the chunk that is being filled. */
  #index = 0;
  #current: Uint8Array | undefined;
  #previous: Uint8Array | undefined;
  readonly #free: Uint8Array[] = [];
  #buffers = 0;
  readonly #underWay = new Set<Promise<void>>();
  #failure: { error: unknown } | undefined;

  constructor(options: LinearSinkOptions) {
    this.#options = options;
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    if (position === 0) await this.#begin();
    if (position !== this.#sizeBytes) throw new Error(`bytes of ${position} were written at ${this.#sizeBytes}`);
    if (this.#head.length < headBytes) this.#head = Buffer.concat([this.#head, bytes.subarray(0, headBytes - this.#head.length)]);
    for (let at = 0; at < bytes.length;) {
      this.#current ??= await this.#buffer();
      const filled = this.#sizeBytes % chunkBytes;
      const part = bytes.subarray(at, at + chunkBytes - filled);
      this.#current.set(part, filled);
      at += part.length;
      this.#sizeBytes += part.length;
      if (this.#sizeBytes % chunkBytes === 0) this.#turn();
    }
  }

  /**
   * Looks at what was read, now that its end is known, and answers the disk with the root of its layer, which is durable.
   * @throws NotLinearError; what openDiskImage throws; the first error of a chunk.
   */
  async finish(limits: OpenLimits): Promise<{ image: DiskImage; root: string }> {
    const { signal } = this.#options;
    const image = await openDiskImage(this.#edges(), limits, signal);
    const dataBytes = await bytesFromStart(image);
    if (dataBytes < this.#heldFrom) throw new NotLinearError('the disk ends before what is held');
    for (const [index, chunk] of this.#held()) {
      // What lies behind the disk (a footer) is not the guest's.
      const used = Math.max(0, Math.min(chunkBytes, dataBytes - index * chunkBytes));
      chunk.fill(0, used);
      if (used > 0) this.#store(index, chunk);
    }
    await Promise.all(this.#underWay);
    this.#throwFailure();
    return { image, root: await this.#builder!.flush(signal) };
  }

  /** Resolves when no chunk is being stored any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#underWay);
  }

  async #begin(): Promise<void> {
    await Promise.all(this.#underWay);
    this.#throwFailure();
    for (const buffer of [this.#current, this.#previous]) if (buffer !== undefined) this.#free.push(buffer);
    this.#current = undefined;
    this.#previous = undefined;
    this.#head = Buffer.alloc(0);
    this.#sizeBytes = 0;
    this.#index = 0;
    this.#builder = await this.#options.newBuilder();
  }

  /** The current chunk is full: the one before it can go. */
  #turn(): void {
    if (this.#previous !== undefined) this.#store(this.#index - 1, this.#previous);
    this.#previous = this.#current;
    this.#current = undefined;
    this.#index += 1;
  }

  async #buffer(): Promise<Uint8Array> {
    for (;;) {
      this.#throwFailure();
      const free = this.#free.pop();
      if (free !== undefined) return free;
      if (this.#buffers < maxBuffers) {
        this.#buffers += 1;
        // Shared with the threads: they copy from it what they store.
        return new Uint8Array(new SharedArrayBuffer(chunkBytes));
      }
      await Promise.race(this.#underWay);
    }
  }

  /** The buffer is free again when the chunk is durable. Failures show at the next write, or at the end. */
  #store(index: number, bytes: Uint8Array): void {
    if (Buffer.compare(bytes, zeroChunk) === 0) {
      this.#free.push(bytes);
      return;
    }
    const builder = this.#builder!;
    const { chunks, signal } = this.#options;
    const task = chunks
      .storeBytes(bytes, signal)
      .then(({ address }) => builder.set(index, address === undefined ? undefined : parseChunkAddress(address)))
      .catch((error: unknown) => void (this.#failure ??= { error }))
      .finally(() => {
        this.#free.push(bytes);
        this.#underWay.delete(task);
      });
    this.#underWay.add(task);
  }

  #throwFailure(): void {
    this.#options.signal.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  get #heldFrom(): number {
    return (this.#index - (this.#previous === undefined ? 0 : 1)) * chunkBytes;
  }

  #held(): [index: number, chunk: Uint8Array][] {
    const held: [number, Uint8Array][] = [];
    if (this.#previous !== undefined) held.push([this.#index - 1, this.#previous]);
    if (this.#current !== undefined) held.push([this.#index, this.#current]);
    return held;
  }

  /** The first and the last bytes of the source: what formats are told by. */
  #edges(): ByteSource {
    const sizeBytes = this.#sizeBytes;
    const read = async (target: Uint8Array, offset: number): Promise<void> => {
      assertRange(sizeBytes, offset, target.length);
      if (offset + target.length <= this.#head.length) {
        target.set(this.#head.subarray(offset, offset + target.length));
        return;
      }
      if (offset < this.#heldFrom) throw new NotLinearError('a decoder asked for bytes that are gone');
      for (const [index, chunk] of this.#held()) {
        const start = index * chunkBytes;
        const from = Math.max(offset, start);
        const to = Math.min(offset + target.length, start + chunkBytes);
        if (from < to) target.set(chunk.subarray(from - start, to - start), from - offset);
      }
    };
    return { sizeBytes, read, async [Symbol.asyncDispose]() {} };
  }
}

/** How many bytes of the file are the disk's, when it begins with them. @throws NotLinearError when it does not. */
async function bytesFromStart(image: DiskImage): Promise<number> {
  let end = 0;
  for await (const extent of image.extents(0, image.sizeBytes)) {
    if (extent.kind === 'raw' && extent.at === extent.offset && extent.offset === end) end += extent.length;
    else if (extent.kind !== 'zero') throw new NotLinearError('the disk is not the bytes of the file');
  }
  return end;
}
