// The one place that makes logs: JSON lines on standard error (standard output carries the banner and `obraz is ready`). Secrets are
// cut out twice: fields that hold them by name, and what looks like one inside texts and errors.
import { type DestinationStream, type Logger, pino } from 'pino';
import { BatchedOutput } from './batched-output.ts';

/** A logger as every part gets it: `log.error({ err }, 'what happened')`. Errors go under `err`. */
export type Log = Logger;

export interface LogOptions {
  /** `trace` … `fatal`, or `silent`. */
  level: string;
  /** Where lines go instead of standard error; for tests. */
  destination?: DestinationStream;
}

/** Lines that wait for a reader that does not keep up; beyond this they are dropped, the service goes on. */
const maxWaitingBytes = 16 * 1024 * 1024;
/** Lines are written together, as soon as there are so many bytes or so much time has passed: a write each costs more than the line. */
const batchBytes = 32 * 1024;
const batchMs = 100;
const maxCauses = 5;
/** Longer texts of errors are cut. */
const maxTextLength = 10_000;

/** Lower case. */
const secretFields = new Set([
  'authorization',
  'token',
  'iamtoken',
  'iam_token',
  'jwt',
  'password',
  'privatekey',
  'private_key',
  'secret',
]);

/** Lines reach standard error within a tenth of a second; all that wait are written at an orderly exit. */
export function createLog({ level, destination = standardError() }: LogOptions): Log {
  return pino(
    {
      level,
      base: null,
      timestamp,
      // pino's own `redact` with wildcards costs 15 µs a line, more than the rest of a line; this costs a tenth of one.
      formatters: { level: (label) => ({ level: label }), log: (fields) => withoutSecrets(fields, 1) },
      serializers: { err: (error: unknown) => describeError(error) },
    },
    destination,
  );
}

let stampedMs = 0;
let stamp = '';

/** Under load many lines fall into one millisecond. */
function timestamp(): string {
  const now = Date.now();
  if (now !== stampedMs) {
    stampedMs = now;
    stamp = `,"time":"${new Date(now).toISOString()}"`;
  }
  return stamp;
}

const standardError = (): DestinationStream =>
  new BatchedOutput({
    fd: 2,
    batchBytes,
    batchMs,
    maxWaitingBytes,
    describeDropped: (count) =>
      `${JSON.stringify({ level: 'warn', time: new Date().toISOString(), msg: 'log lines were dropped', count })}\n`,
  });

/** The fields themselves when there is nothing to hide, as almost always. */
function withoutSecrets(fields: Record<string, unknown>, depth: number): Record<string, unknown> {
  let shown = fields;
  for (const name in fields) {
    const value = fields[name];
    let show = value;
    if (secretFields.has(name.toLowerCase())) show = '[secret]';
    else if (depth > 0 && isPlainObject(value)) show = withoutSecrets(value, depth - 1);
    if (show === value) continue;
    if (shown === fields) shown = { ...fields };
    shown[name] = show;
  }
  return shown;
}

const isPlainObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;

interface DescribedError {
  type: string;
  message: string;
  stack: string | undefined;
  code?: string;
  cause?: DescribedError;
}

/** What a log keeps of an error: no fields of its own making, which drivers fill with the values of rows. */
function describeError(error: unknown, causes = 0): DescribedError {
  if (!(error instanceof Error)) return { type: typeof error, message: maskSecrets(String(error)), stack: undefined };
  const { code } = error as { code?: unknown };
  return {
    type: error.name,
    message: maskSecrets(error.message),
    stack: error.stack === undefined ? undefined : maskSecrets(error.stack),
    ...(typeof code === 'string' || typeof code === 'number' ? { code: String(code) } : {}),
    ...(error.cause !== undefined && causes < maxCauses ? { cause: describeError(error.cause, causes + 1) } : {}),
  };
}

type Masking = readonly [RegExp, string | ((found: string) => string)];

/**
 * Strangers write what is masked here: each pattern takes time that grows as the length of the text does. So none may start anew within
 * a run of letters that it has already looked through: patterns take whole runs, and functions look into them.
 */
const secrets: readonly Masking[] = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?/g, '[private key]'],
  [/(?<![\w-])[\w-]+={0,2}(?:\.[\w-]+={0,2}){2,}/g, maskTokens],
  [/\b(Bearer|Basic) +[^\s"',]+/gi, '$1 [secret]'],
  [/:\/\/[^\s/?#"'@]+@/g, '://[secret]@'],
  [/[^\s#"']+/g, maskQuery],
];

/** How the first of three parts of a token begins or what it is: an IAM token's version, a ticket's (attach/ticket.ts), a JWT's header. */
const tokenHead = /\b(?:(?:t1|nbd1)$|eyJ.)/;

/** Of parts between dots. */
function maskTokens(dotted: string): string {
  const parts = dotted.split('.');
  const shown: string[] = [];
  for (let index = 0; index < parts.length; index += 1) {
    const part = parts[index]!;
    const at = index + 2 < parts.length ? part.search(tokenHead) : -1;
    shown.push(at === -1 ? part : `${part.slice(0, at)}[token]`);
    // Claims and signature.
    if (at !== -1) index += 2;
  }
  return shown.join('.');
}

/** Presigned URLs carry their signature in the query. */
function maskQuery(word: string): string {
  if (!word.includes('?')) return word;
  const urlAt = word.search(/\bhttps?:\/\/[^?]/i);
  const queryAt = urlAt === -1 ? -1 : word.indexOf('?', urlAt);
  return queryAt === -1 ? word : `${word.slice(0, queryAt)}?[query]`;
}

/** The text without tokens, tickets, private keys, passwords in URLs and queries of URLs; cut when it is very long. */
export const maskSecrets = (text: string): string =>
  // The types of `replace` know a string or a function, not either.
  secrets.reduce((masked, [pattern, shown]) => masked.replace(pattern, shown as string), text.slice(0, maxTextLength));
