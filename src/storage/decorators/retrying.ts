import { setTimeout as sleep } from 'node:timers/promises';
import { TransientError } from '../../platform/errors.ts';
import type { BlobRange, BlobStore, GetOptions, PutOptions } from '../blob-store.ts';

export interface Retries {
  /** Calls in all, the first one included. */
  attempts: number;
  /** The longest first pause; each later one may be twice as long, up to `maxPauseMs`. The pause is drawn anew below that. */
  firstPauseMs: number;
  maxPauseMs: number;
  /** Uniform in [0, 1). */
  random?: () => number;
}

const defaults: Retries = { attempts: 5, firstPauseMs: 100, maxPauseMs: 5_000 };

/** Repeats what failed with a TransientError: every call of a blob store is idempotent. The last error is thrown as it is. */
export function retrying(store: BlobStore, retries: Retries = defaults): BlobStore {
  return new RetryingBlobStore(store, retries);
}

class RetryingBlobStore implements BlobStore {
  readonly #store: BlobStore;
  readonly #retries: Retries;

  constructor(store: BlobStore, retries: Retries) {
    this.#store = store;
    this.#retries = retries;
  }

  put(key: string, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<void> {
    // Bytes that were taken are not there for another attempt.
    let isTaken = false;
    const onTaken = options.onTaken && ((): void => ((isTaken = true), options.onTaken!()));
    const call = () => this.#store.put(key, parts, { ...options, onTaken });
    return this.#repeat(call, { signal: options.signal, mayRepeat: () => !isTaken });
  }

  get(key: string, range?: BlobRange, options: GetOptions = {}): Promise<Uint8Array> {
    return this.#repeat(() => this.#store.get(key, range, options), { signal: options.signal });
  }

  stat(key: string): Promise<{ sizeBytes: number } | undefined> {
    return this.#repeat(() => this.#store.stat(key));
  }

  delete(key: string): Promise<void> {
    return this.#repeat(() => this.#store.delete(key));
  }

  /** A listing that breaks begins again and goes on after the last key that was answered. */
  async *list(prefix: string): AsyncGenerator<{ key: string; sizeBytes: number }> {
    let last: string | undefined;
    for (let attempt = 1; ; attempt += 1) {
      try {
        for await (const entry of this.#store.list(prefix)) {
          if (last !== undefined && entry.key <= last) continue;
          last = entry.key;
          attempt = 1;
          yield entry;
        }
        return;
      } catch (error) {
        await this.#pause(error, attempt);
      }
    }
  }

  async #repeat<T>(
    call: () => Promise<T>,
    { signal, mayRepeat = () => true }: { signal?: AbortSignal | undefined; mayRepeat?: () => boolean } = {},
  ): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await call();
      } catch (error) {
        if (!mayRepeat()) throw error;
        await this.#pause(error, attempt, signal);
      }
    }
  }

  /** @throws the error when it is not to be repeated; signal.reason when aborted. */
  async #pause(error: unknown, attempt: number, signal?: AbortSignal): Promise<void> {
    const { attempts, firstPauseMs, maxPauseMs, random = Math.random } = this.#retries;
    if (!(error instanceof TransientError) || attempt >= attempts) throw error;
    signal?.throwIfAborted();
    const bound = Math.min(maxPauseMs, firstPauseMs * 2 ** (attempt - 1));
    try {
      await sleep(bound * random(), undefined, signal === undefined ? {} : { signal });
    } catch (stopped) {
      throw signal?.aborted ? signal.reason : stopped;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }
}
