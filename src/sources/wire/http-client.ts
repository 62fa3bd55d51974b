// GET requests to one target over a bounded set of connections that are kept alive. Nothing is decompressed, no redirect followed, no
// cookie kept; a failed request is told to the caller, who knows whether it may be sent again.
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { Semaphore } from '../../platform/semaphore.ts';
import type { Proxy } from '../proxy-rules.ts';
import type { Target } from '../url-policy.ts';
import type { Connection } from './connection.ts';
import { dial } from './dial.ts';
import { ResponseBody } from './response-body.ts';
import { httpStart, parseResponseHead, type ResponseHead } from './response-head.ts';
import { defaultTimeouts, type Timeouts } from './timeouts.ts';
import { WireError } from './wire-error.ts';

export interface ClientOptions {
  maxConnections: number;
  timeouts?: Partial<Timeouts>;
  /** PEM certificates of authorities that are trusted besides the well-known ones. */
  certificateAuthorities?: string | undefined;
  /** What connections go through; undefined for none. */
  proxy?: Proxy | undefined;
}

export interface Response {
  /** The address that sent it. */
  address: string;
  head: ResponseHead;
  body: ResponseBody;
}

const maxHeadBytes = 65_536;
const maxInterimResponses = 16;

export class HttpClient implements AsyncDisposable {
  readonly target: Target;
  readonly #timeouts: Timeouts;
  readonly #secureContext: SecureContext | undefined;
  readonly #proxy: Proxy | undefined;
  readonly #slots: Semaphore;
  readonly #idle: Connection[] = [];
  readonly #open = new Set<Connection>();
  readonly #closed = new AbortController();
  #speaksHttp = false;
  #isRetired = false;

  constructor(target: Target, options: ClientOptions) {
    this.target = target;
    this.#timeouts = { ...defaultTimeouts, ...options.timeouts };
    this.#secureContext = target.protocol === 'https:' ? secureContext(options.certificateAuthorities) : undefined;
    this.#proxy = options.proxy;
    this.#slots = new Semaphore(options.maxConnections);
  }

  /**
   * Sends a GET with `headers` and hands the response to `consume`. A body that `consume` leaves unread costs the connection.
   * @throws WireError; signal.reason when aborted; what `consume` throws. After that no byte is written to any buffer of `consume`.
   */
  async get<T>(
    headers: Readonly<Record<string, string>>,
    consume: (response: Response) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    using stop = firstOf(this.#closed.signal, signal);
    const either = stop.signal;
    const release = await this.#slots.acquire(either);
    try {
      for (;;) {
        const reused = this.#takeIdle();
        const connection = reused ?? (await this.#connect(either));
        const receivedBefore = connection.receivedBytes;
        try {
          return await this.#exchange(connection, headers, consume, either);
        } catch (error) {
          connection.destroy();
          // A server may close an idle connection at the very moment that it is used again; nothing was answered, so ask anew.
          const wasStale = reused !== undefined && connection.receivedBytes === receivedBefore && !either.aborted;
          if (!wasStale || !(error instanceof WireError)) throw error;
        }
      }
    } catch (error) {
      either.throwIfAborted();
      throw error;
    } finally {
      release();
    }
  }

  async #exchange<T>(
    connection: Connection,
    headers: Readonly<Record<string, string>>,
    consume: (response: Response) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const onAbort = () => connection.destroy(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      connection.send(requestText(this.target, headers));
      const head = await this.#readHead(connection);
      const body = new ResponseBody(connection, head.framing);
      const result = await consume({ address: connection.address, head, body });
      if (body.isComplete && head.keepsAlive && connection.isIdle && !this.#isRetired) this.#idle.push(connection);
      else connection.destroy();
      return result;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #readHead(connection: Connection): Promise<ResponseHead> {
    const { responseMs } = this.#timeouts;
    const timer = setTimeout(
      () => connection.destroy(new WireError('broken', `no answer within ${responseMs / 1000} s`)),
      responseMs,
    );
    try {
      for (let interim = 0; interim <= maxInterimResponses; interim += 1) {
        const text = await connection.readThrough('\r\n\r\n', maxHeadBytes, httpStart);
        if (text === undefined) throw new WireError('broken', 'the connection ended without an answer');
        this.#speaksHttp = true;
        const head = parseResponseHead(text);
        if (head.status >= 200) return head;
        if (head.status === 101) throw new WireError('malformed', 'the server changes to another protocol');
      }
      throw new WireError('malformed', `more than ${maxInterimResponses} interim responses`);
    } catch (error) {
      if (connection.peek(httpStart.length) === httpStart) this.#speaksHttp = true;
      // A port that takes connections and is no web server is told from a closed one by nobody.
      throw this.#speaksHttp || !(error instanceof WireError) ? error : new WireError('unreachable', 'no HTTP', { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }

  async #connect(signal: AbortSignal): Promise<Connection> {
    const connection = await dial(this.target, {
      timeouts: this.#timeouts,
      secureContext: this.#secureContext,
      proxy: this.#proxy,
      signal,
    });
    this.#open.add(connection);
    connection.socket.once('close', () => {
      this.#open.delete(connection);
      const index = this.#idle.indexOf(connection);
      if (index !== -1) this.#idle.splice(index, 1);
    });
    return connection;
  }

  #takeIdle(): Connection | undefined {
    for (;;) {
      const connection = this.#idle.pop();
      if (connection === undefined || connection.isIdle) return connection;
      connection.destroy();
    }
  }

  /** Keeps no connection any longer than its request; requests under way go on. */
  retire(): void {
    this.#isRetired = true;
    for (const connection of this.#idle.splice(0)) connection.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort(new Error('the source was closed'));
    for (const connection of this.#open) connection.destroy();
  }
}

/** A signal that follows two others until it is disposed of. (AbortSignal.any would stay tied to a long-lived signal for each request.) */
function firstOf(one: AbortSignal, other: AbortSignal | undefined): { signal: AbortSignal } & Disposable {
  const follower = new AbortController();
  const follow = (event: Event) => follower.abort((event.target as AbortSignal).reason);
  const followed = other === undefined ? [one] : [one, other];
  for (const signal of followed) {
    if (signal.aborted) follower.abort(signal.reason);
    signal.addEventListener('abort', follow, { once: true });
  }
  const unfollow = () => followed.forEach((signal) => signal.removeEventListener('abort', follow));
  return { signal: follower.signal, [Symbol.dispose]: unfollow };
}

function requestText(target: Target, headers: Readonly<Record<string, string>>): string {
  const lines = Object.entries({ host: target.hostHeader, ...standingHeaders, ...headers }).map(([name, value]) => {
    // Validators come from the server's answers; none may end a line.
    if (!/^[\t\u0020-\u007e\u0080-\u00ff]*$/.test(value)) throw new Error(`header ${name} holds a character that cannot be sent`);
    return `${name}: ${value}\r\n`;
  });
  return `GET ${target.path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

const standingHeaders = { accept: '*/*', 'accept-encoding': 'identity', 'user-agent': 'obraz' };

/** Made once for each set of authorities: parsing the well-known ones takes tens of milliseconds. */
const secureContexts = new Map<string, SecureContext>();

function secureContext(certificateAuthorities: string | undefined): SecureContext | undefined {
  if (certificateAuthorities === undefined) return undefined;
  let context = secureContexts.get(certificateAuthorities);
  if (context === undefined) {
    context = createSecureContext({ ca: [...getCACertificates('default'), certificateAuthorities] });
    if (secureContexts.size >= 8) secureContexts.clear();
    secureContexts.set(certificateAuthorities, context);
  }
  return context;
}
