// LISTEN on a connection of its own (a pool's connections change hands, and a proxy in transaction mode forgets LISTEN). Notifications
// are hints: those sent while the connection is away are lost, so whoever listens looks for itself after every `onListening`.
import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';

export interface ListenerOptions {
  url: string;
  channel: string;
  /** Called for every notification; must not throw. */
  onNotification: (payload: string) => void;
  /** Called when LISTEN is in force, first and after every reconnect: look for what was missed. */
  onListening?: () => void;
  /** Called when the connection broke or could not be made; it is made again until the listener is disposed of. */
  onLost?: (error: Error) => void;
  /** How often the connection is asked for a sign of life. A connection without one for as long again is given up. Default 10,000. */
  heartbeatMs?: number;
}

const firstBackOffMs = 100;
const maxBackOffMs = 5_000;
const connectTimeoutMs = 5_000;
const closeTimeoutMs = 1_000;

export class Listener implements AsyncDisposable {
  readonly #options: ListenerOptions;
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#ended = this.#keepListening();
  }

  async #keepListening(): Promise<void> {
    const { signal } = this.#stop;
    let backOffMs = firstBackOffMs;
    while (!signal.aborted) {
      try {
        await this.#listen(() => (backOffMs = firstBackOffMs));
      } catch (error) {
        if (signal.aborted) return;
        this.#options.onLost?.(error as Error);
        // Jitter: the processes that lost one server do not come back to it in step.
        await delay(backOffMs * (0.5 + Math.random()), undefined, { signal }).catch(() => {});
        backOffMs = Math.min(backOffMs * 2, maxBackOffMs);
      }
    }
  }

  /** One connection's life. @throws what ended it. */
  async #listen(onConnected: () => void): Promise<void> {
    const { signal } = this.#stop;
    const heartbeatMs = this.#options.heartbeatMs ?? 10_000;
    const socket = new Socket();
    const client = new Client({
      connectionString: this.#options.url,
      application_name: 'obraz-listen',
      connectionTimeoutMillis: connectTimeoutMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: heartbeatMs,
      query_timeout: heartbeatMs,
      stream: () => socket,
    });
    const over = new AbortController();
    const broken = Promise.withResolvers<never>();
    broken.promise.catch(() => {});
    client.on('error', (error) => broken.reject(error));
    client.on('end', () => broken.reject(new Error('Connection terminated')));
    client.on('notification', ({ payload }) => {
      if (!over.signal.aborted) this.#options.onNotification(payload ?? '');
    });
    const onStop = () => broken.reject(signal.reason as Error);
    signal.addEventListener('abort', onStop, { once: true });
    try {
      await Promise.race([client.connect(), broken.promise]);
      await Promise.race([client.query(`listen ${client.escapeIdentifier(this.#options.channel)}`), broken.promise]);
      onConnected();
      this.#options.onListening?.();
      while (true) {
        await Promise.race([delay(heartbeatMs, undefined, { signal: over.signal }), broken.promise]);
        await Promise.race([client.query('select 1'), broken.promise]);
      }
    } finally {
      over.abort();
      signal.removeEventListener('abort', onStop);
      // Says goodbye where somebody listens; a half-open connection would never confirm it.
      const timer = setTimeout(() => socket.destroy(), closeTimeoutMs);
      socket.once('close', () => clearTimeout(timer));
      client.end().catch(() => {});
    }
  }

  /** Resolves when the listener has ended: no callback comes after it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the listener was disposed of'));
    await this.#ended;
  }
}
