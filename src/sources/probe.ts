// The first look at a source: follows redirects with the URL policy on each hop, and learns size, ranges and validator from one GET
// of the first bytes. (No HEAD: signed URLs and many servers refuse it.) What it answers is plain data with the checked address in it,
// enough to read the source in any thread without asking the policy again.
import { type DomainError, TransientError } from '../platform/errors.ts';
import { HttpClient, type Response } from './wire/http-client.ts';
import { parseContentRange, parseUnsatisfiedRange } from './wire/content-range.ts';
import { parseRetryAfter } from './wire/retry-after.ts';
import type { ResponseHead } from './wire/response-head.ts';
import type { Timeouts } from './wire/timeouts.ts';
import { WireError } from './wire/wire-error.ts';
import { looksLikeMarkup } from './markup.ts';
import { proxyFor, type ProxyRules } from './proxy-rules.ts';
import { checkRedirect, redirectUrl } from './redirect.ts';
import { defaultRetryRules, isPassingStatus, pauseMs, type RetryRules, sleep } from './retry.ts';
import {
  badAnswer,
  describeStatus,
  passingStatusFailed,
  requireIdentity,
  sourceFailed,
  statusFailed,
  wireFailed,
} from './source-failure.ts';
import { describeUrl, type Digest, type HttpUrl, parseSourceUri } from './source-uri.ts';
import type { Target, UrlPolicy, UrlPolicyRules } from './url-policy.ts';
import { findValidator, type Validator } from './validator.ts';

/** A source as it was found. Plain data: it can be posted to a thread. It holds the URI with its signature: never log it. */
export interface SourceInfo {
  /** As it was given; asked again when the address that it redirects to has expired. */
  uri: string;
  /** What the bytes must hash to, when the URI says so. */
  digest: Digest | undefined;
  /** Where the redirects ended; with a single address, the one that answered. */
  target: Target;
  isRedirected: boolean;
  /** Undefined when the server does not tell; always known when it has ranges. */
  sizeBytes: number | undefined;
  /** Whether the server answers requests for ranges: if not, the source can only be read from its begin to its end (spool). */
  hasRanges: boolean;
  /** What a later request can be tied to. Without it, a change of the source shows only in its length. */
  validator: Validator | undefined;
  /** The entity tag as the server sent it, weak or strong; a different one later is a change. */
  etag: string | undefined;
  /** Last-Modified as the server sent it, whatever it is worth. */
  lastModified: string | undefined;
  /** The first bytes, at most 64 KiB, all of them when the source is shorter. */
  head: Uint8Array;
  policyRules: UrlPolicyRules;
  certificateAuthorities: string | undefined;
  proxies: ProxyRules | undefined;
}

export interface ProbeOptions {
  signal?: AbortSignal | undefined;
  timeouts?: Partial<Timeouts> | undefined;
  retry?: Partial<RetryRules> | undefined;
  /** PEM certificates of authorities that are trusted besides the well-known ones. */
  certificateAuthorities?: string | undefined;
  proxies?: ProxyRules | undefined;
}

const headBytes = 65_536;
const maxRedirects = 5;

/**
 * @param uri as parseSourceUri reads it.
 * @throws DomainError when the source can never be imported as it is; TransientError when a later try may work; signal.reason.
 */
export async function probeSource(uri: string, policy: UrlPolicy, options: ProbeOptions = {}): Promise<SourceInfo> {
  const { url: firstUrl, digest } = parseSourceUri(uri);
  let url = firstUrl;
  for (let redirects = 0; ; redirects += 1) {
    const target =
      redirects === 0 ? await policy.check(url, options.signal) : await checkRedirect(url, policy, firstUrl, options.signal);
    const answer = await askWithRetries(target, options);
    if (answer.kind === 'found') {
      const { certificateAuthorities, proxies } = options;
      const isRedirected = redirects > 0;
      const { kind: _, ...facts } = answer;
      return { uri, digest, isRedirected, ...facts, policyRules: policy.rules, certificateAuthorities, proxies };
    }
    if (redirects === maxRedirects) {
      throw sourceFailed('SOURCE_REDIRECT', `Source ${describeUrl(firstUrl)} redirects more than ${maxRedirects} times`);
    }
    url = redirectUrl(url, answer.location);
  }
}

type Found = Pick<SourceInfo, 'target' | 'sizeBytes' | 'hasRanges' | 'validator' | 'etag' | 'lastModified' | 'head'> & {
  kind: 'found';
};
type Answer =
  | Found
  | { kind: 'redirect'; location: string | undefined }
  | { kind: 'passing'; status: number; retryAfterMs: number | undefined }
  | { kind: 'noRanges' };

async function askWithRetries(target: Target, options: ProbeOptions): Promise<Found | Extract<Answer, { kind: 'redirect' }>> {
  const rules = { ...defaultRetryRules, ...options.retry };
  const deadline = performance.now() + rules.unreachableMs;
  let withRange = true;
  for (let attempt = 1; ; attempt += 1) {
    let failure: Error;
    let retryAfterMs: number | undefined;
    let isUnreachable = false;
    try {
      const answer = await ask(target, withRange, options);
      if (answer.kind === 'found' || answer.kind === 'redirect') return answer;
      if (answer.kind === 'noRanges') {
        withRange = false;
        continue;
      }
      failure = passingStatusFailed(target, answer.status);
      ({ retryAfterMs } = answer);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      failure = wireFailed(target, error);
      if (!(failure instanceof TransientError)) throw failure;
      isUnreachable = error.kind === 'unreachable';
    }
    const leftMs = isUnreachable ? deadline - performance.now() : Number.POSITIVE_INFINITY;
    if (leftMs <= 0 || (!isUnreachable && attempt >= rules.maxAttempts)) throw failure;
    await sleep(Math.min(pauseMs(rules, attempt, retryAfterMs), leftMs), options.signal);
  }
}

/** One request. 'noRanges': the server refuses requests for ranges, so ask without. */
async function ask(target: Target, withRange: boolean, options: ProbeOptions): Promise<Answer> {
  const { timeouts = {}, certificateAuthorities, proxies, signal } = options;
  const proxy = proxyFor(target, proxies);
  await using client = new HttpClient(target, { maxConnections: 1, timeouts, certificateAuthorities, proxy });
  return await client.get(
    withRange ? { range: `bytes=0-${headBytes - 1}` } : {},
    async (response): Promise<Answer> => {
      const { head } = response;
      const answeringTarget = { ...target, addresses: [response.address] };
      switch (head.status) {
        case 206:
          return withRange ? readRangeAnswer(answeringTarget, response) : refuseStatus(target, head.status);
        case 200:
          return readWholeAnswer(answeringTarget, response);
        case 301:
        case 302:
        case 303:
        case 307:
        case 308:
          return { kind: 'redirect', location: head.header('location') };
        case 416:
          if (parseUnsatisfiedRange(head.header('content-range')) === 0) throw emptySource(target);
          return withRange ? { kind: 'noRanges' } : refuseStatus(target, head.status);
        case 400:
        case 501:
          return withRange ? { kind: 'noRanges' } : refuseStatus(target, head.status);
        default:
          if (!isPassingStatus(head.status)) return refuseStatus(target, head.status);
          return { kind: 'passing', status: head.status, retryAfterMs: parseRetryAfter(head.header('retry-after'), Date.now()) };
      }
    },
    signal,
  );
}

const refuseStatus = (url: HttpUrl, status: number): never => {
  if (status >= 400) throw statusFailed(url, status, '');
  throw badAnswer(url, `status ${describeStatus(status)} is not an answer to a download`);
};

const emptySource = (url: HttpUrl): DomainError => sourceFailed('SOURCE_EMPTY', `Source ${describeUrl(url)} is empty`);

async function readRangeAnswer(target: Target, { head, body }: Response): Promise<Answer> {
  requireIdentity(target, head.header('content-encoding'));
  const range = parseContentRange(head.header('content-range'));
  if (range === undefined) throw badAnswer(target, 'status 206 without a valid Content-Range');
  // Without the size, ranges are of no use: nobody knows where to stop.
  if (range.sizeBytes === undefined) return { kind: 'noRanges' };
  const expected = Math.min(headBytes, range.sizeBytes);
  if (range.start !== 0 || range.end !== expected) {
    throw badAnswer(
      target,
      `bytes 0 to ${expected - 1} were asked for and Content-Range names ${range.start} to ${range.end - 1}`,
    );
  }
  if (body.framing.kind === 'length' && body.framing.lengthBytes !== expected) {
    throw badAnswer(target, `Content-Range names ${expected} bytes and Content-Length ${body.framing.lengthBytes}`);
  }
  const bytes = await readHead(body, expected);
  if (bytes.length < expected) throw new WireError('broken', `only ${bytes.length} of ${expected} bytes were sent`);
  return found(target, head, bytes, range.sizeBytes, true);
}

async function readWholeAnswer(target: Target, { head, body }: Response): Promise<Answer> {
  requireIdentity(target, head.header('content-encoding'));
  const sizeBytes = body.framing.kind === 'length' ? body.framing.lengthBytes : undefined;
  const bytes = await readHead(body, Math.min(headBytes, sizeBytes ?? headBytes));
  if (bytes.length === 0) throw emptySource(target);
  return found(target, head, bytes, sizeBytes, false);
}

/** The first bytes of the body, fewer only where it ends. The buffer is exactly as long, because it is cloned into threads. */
async function readHead(body: Response['body'], lengthBytes: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(lengthBytes);
  let filled = 0;
  while (filled < lengthBytes) {
    const byteCount = await body.read(bytes.subarray(filled));
    if (byteCount === 0) break;
    filled += byteCount;
  }
  return filled === lengthBytes ? bytes : bytes.slice(0, filled);
}

function found(target: Target, head: ResponseHead, bytes: Uint8Array, sizeBytes: number | undefined, hasRanges: boolean): Found {
  if (looksLikeMarkup(bytes, head.header('content-type'))) {
    throw sourceFailed(
      'SOURCE_NOT_A_FILE',
      `Source ${describeUrl(target)} is an HTML page, not a disk image: a login or download page? Use the address of the file itself`,
    );
  }
  const [etag, lastModified] = [head.header('etag'), head.header('last-modified')];
  return { kind: 'found', target, sizeBytes, hasRanges, validator: findValidator(head), etag, lastModified, head: bytes };
}
