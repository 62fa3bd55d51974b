// A service as the server hosts it.
import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';

/** One port of the server, as calls see it. */
export interface Listener {
  /** True on the TLS port. */
  readonly secure: boolean;
  readonly running: RunningCalls;
}

export interface Service {
  /** Full name: `yandex.cloud.compute.v1.ImageService`. */
  readonly name: string;
  readonly definition: ServiceDefinition;
  /** The handlers for one listener. */
  handlers(listener: Listener): UntypedServiceImplementation;
}

/** Counts calls, so that a stop can wait for them, and tells streams when the stop begins. */
export class RunningCalls {
  #count = 0;
  #idle: PromiseWithResolvers<void> | undefined;
  readonly #stopping = new AbortController();

  /** Aborts when the server begins to stop: streams end then, other calls go on. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  began(): void {
    this.#count += 1;
  }

  ended(): void {
    this.#count -= 1;
    if (this.#count === 0) this.#idle?.resolve();
  }

  stop(): void {
    this.#stopping.abort();
  }

  /** Resolves when no call is running. */
  async whenIdle(): Promise<void> {
    if (this.#count === 0) return;
    this.#idle ??= Promise.withResolvers<void>();
    await this.#idle.promise;
  }
}
