// The memory of the chunks that a thread works on: so many at most, used again and again. A chunk's memory is free when the system has its
// bytes (PutOptions.onTaken), long before they are durable: many chunks wait for the disk together in the memory of few.
import { Semaphore } from '../../platform/semaphore.ts';
import { ChunkBuffer } from '../chunk-encoder.ts';

/** Of one thread. */
export interface ThreadBounds {
  /** While one is hashed, others wait for their bytes. */
  chunksInMemory: number;
  /** Most of them only wait for the disk: the more of them wait together, the less often it has to flush. */
  putsAtOnce: number;
}

/** What all threads together have, shared out among them; at least 2 each. */
export const sharedOut = ({ chunksInMemory, putsAtOnce }: ThreadBounds, threads: number): ThreadBounds => ({
  chunksInMemory: Math.max(2, Math.ceil(chunksInMemory / threads)),
  putsAtOnce: Math.max(2, Math.ceil(putsAtOnce / threads)),
});

/** Free at the latest when it is disposed of. */
export interface HeldChunk extends Disposable {
  readonly buffer: ChunkBuffer;
  /** Its bytes are not needed any more. A second time changes nothing. */
  readonly free: () => void;
}

export class ChunkMemory {
  readonly #turns: Semaphore;
  #free: ChunkBuffer[] = [];

  constructor(chunks: number) {
    this.#turns = new Semaphore(chunks);
  }

  /** Waits until there is one; its bytes are undefined. @throws signal.reason */
  async take(signal?: AbortSignal): Promise<HeldChunk> {
    const release = await this.#turns.acquire(signal);
    const buffer = this.#free.pop() ?? new ChunkBuffer();
    let isHeld = true;
    const free = (): void => {
      if (!isHeld) return;
      isHeld = false;
      this.#free.push(buffer);
      release();
    };
    return { buffer, free, [Symbol.dispose]: free };
  }

  /** Gives the system back what nobody holds. */
  clear(): void {
    this.#free = [];
  }
}
