// Requests to a source that was probed: always of the same version of it, and at the place where its redirects lead now. An address that
// a redirect led to is often signed for minutes; when it has expired, the original URI is asked again and must lead to the same file.
import { type DomainError, TransientError } from '../platform/errors.ts';
import { HttpClient, type Response } from './wire/http-client.ts';
import { parseRetryAfter } from './wire/retry-after.ts';
import type { Timeouts } from './wire/timeouts.ts';
import { WireError } from './wire/wire-error.ts';
import { probeSource, type SourceInfo } from './probe.ts';
import { proxyFor } from './proxy-rules.ts';
import { defaultRetryRules, isPassingStatus, pauseMs, type RetryRules, sleep } from './retry.ts';
import { passingStatusFailed, requireIdentity, sourceChanged, statusFailed, wireFailed } from './source-failure.ts';
import { untilAborted } from '../platform/until-aborted.ts';
import { UrlPolicy } from './url-policy.ts';
import { conditionOf, differenceFrom } from './validator.ts';

export interface SourceClientOptions {
  timeouts?: Partial<Timeouts> | undefined;
  retry?: Partial<RetryRules> | undefined;
  /** Asked when redirects are followed anew; by default made of the rules that the probe kept. */
  policy?: UrlPolicy | undefined;
}

/** Bytes that make an attempt count as progress: fewer, and a server could keep a reader busy for ever. */
const progressBytes = 65_536;

export class SourceClient implements AsyncDisposable {
  readonly #info: SourceInfo;
  readonly #options: SourceClientOptions;
  readonly #rules: RetryRules;
  readonly #maxConnections: number;
  readonly #closed = new AbortController();
  readonly #retired: HttpClient[] = [];
  #current: HttpClient;
  #renewal: Promise<void> | undefined;
  #bytesAtRenewal = -1;
  /** Bytes of bodies that have arrived, those of failed attempts included. */
  bytesFetched = 0;
  requestCount = 0;

  constructor(info: SourceInfo, maxConnections: number, options: SourceClientOptions) {
    this.#info = info;
    this.#options = options;
    this.#rules = { ...defaultRetryRules, ...options.retry };
    this.#maxConnections = maxConnections;
    this.#current = this.#newClient(info.target);
  }

  /** For messages. */
  get url(): SourceInfo['target'] {
    return this.#current.target;
  }

  /**
   * Sends requests until one was answered to its end. `headers` is asked before each, so that a request goes on where the last one broke;
   * `consume` sees only 200 and 206 of the same version of the source, and 416.
   * @throws DomainError when the source has changed or is gone; TransientError when the tries are used up; signal.reason.
   */
  async request<T>(
    headers: () => Record<string, string>,
    consume: (response: Response) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const deadline = performance.now() + this.#rules.unreachableMs;
    for (let attempt = 1; ; attempt += 1) {
      const bytesBefore = this.bytesFetched;
      const client = this.#current;
      let failure: Failure;
      try {
        this.requestCount += 1;
        return await client.get(headers(), (response) => this.#checked(client, response, consume), signal);
      } catch (error) {
        failure = this.#judge(client, error);
      }
      if (failure.kind === 'moved') {
        await this.#renew(client, failure.error, signal);
        continue;
      }
      if (this.bytesFetched - bytesBefore >= progressBytes) attempt = 1;
      if (attempt >= this.#rules.maxAttempts && !(failure.isUnreachable && performance.now() < deadline)) throw failure.error;
      await sleep(pauseMs(this.#rules, attempt, failure.retryAfterMs), signal);
    }
  }

  async #checked<T>(client: HttpClient, response: Response, consume: (response: Response) => Promise<T>): Promise<T> {
    const { head } = response;
    const { status } = head;
    if (status === 412) throw sourceChanged(client.target, 'it is not the version that was found first');
    if (isPassingStatus(status)) throw new PassingStatus(status, parseRetryAfter(head.header('retry-after'), Date.now()));
    if (status === 401 || status === 403 || (status >= 300 && status < 400)) throw new Moved(status);
    if (status !== 200 && status !== 206 && status !== 416) throw statusFailed(client.target, status, ' while it was being read');
    if (status === 416) return consume(response);
    requireIdentity(client.target, head.header('content-encoding'));
    const difference = differenceFrom(this.#info, head);
    if (difference !== undefined) throw sourceChanged(client.target, difference);
    return consume(response);
  }

  /** What to do about an error. @throws it when it is final. */
  #judge(client: HttpClient, error: unknown): Failure {
    const url = client.target;
    if (error instanceof Moved) return { kind: 'moved', error: statusFailed(url, error.status, ' while it was being read') };
    if (error instanceof PassingStatus) {
      const failure = passingStatusFailed(url, error.status);
      return { kind: 'passing', error: failure, retryAfterMs: error.retryAfterMs, isUnreachable: false };
    }
    if (!(error instanceof WireError)) throw error;
    const failure = wireFailed(url, error);
    if (!(failure instanceof TransientError)) throw failure;
    return { kind: 'passing', error: failure, retryAfterMs: undefined, isUnreachable: error.kind === 'unreachable' };
  }

  /** Follows the redirects anew, once for all requests that met the same refusal. @throws `refusal` when that cannot help. */
  async #renew(refused: HttpClient, refusal: Error, signal: AbortSignal | undefined): Promise<void> {
    if (refused !== this.#current) return;
    if (this.#renewal === undefined) {
      // Without a validator nothing shows that the new place has the same file; without bytes in between it would go on for ever.
      const canHelp = this.#info.isRedirected && this.#info.validator !== undefined && this.bytesFetched > this.#bytesAtRenewal;
      if (!canHelp) throw refusal;
      this.#bytesAtRenewal = this.bytesFetched;
      this.#renewal = this.#probeAgain().finally(() => {
        this.#renewal = undefined;
      });
    }
    await untilAborted(this.#renewal, signal);
  }

  async #probeAgain(): Promise<void> {
    const { uri, policyRules, certificateAuthorities, proxies, sizeBytes, validator } = this.#info;
    const { timeouts, retry, policy } = this.#options;
    const options = { signal: this.#closed.signal, timeouts, retry, certificateAuthorities, proxies };
    const found = await probeSource(uri, policy ?? new UrlPolicy(policyRules), options);
    if (found.sizeBytes !== sizeBytes || found.validator?.value !== validator?.value) {
      throw sourceChanged(found.target, 'its URL leads to another file now');
    }
    this.#current.retire();
    this.#retired.push(this.#current);
    this.#current = this.#newClient(found.target);
  }

  #newClient(target: SourceInfo['target']): HttpClient {
    const { certificateAuthorities, proxies } = this.#info;
    return new HttpClient(target, {
      maxConnections: this.#maxConnections,
      timeouts: this.#options.timeouts ?? {},
      certificateAuthorities,
      proxy: proxyFor(target, proxies),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort(new Error('the source was closed'));
    await Promise.all([...this.#retired, this.#current].map((client) => client[Symbol.asyncDispose]()));
  }
}

type Failure =
  | { kind: 'moved'; error: DomainError }
  | { kind: 'passing'; error: TransientError; retryAfterMs: number | undefined; isUnreachable: boolean };

/** Not the file, but perhaps the way to it: a redirect, or a refusal where a signature may have expired. */
class Moved extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`status ${status}`);
    this.status = status;
  }
}

class PassingStatus extends Error {
  readonly status: number;
  readonly retryAfterMs: number | undefined;

  constructor(status: number, retryAfterMs: number | undefined) {
    super(`status ${status}`);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Headers for the version that was probed. */
export const versionHeaders = (info: SourceInfo): Record<string, string> => conditionOf(info.validator);
