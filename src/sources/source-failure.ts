// What a user is told when a source fails. Texts name the server, the path, the status and the way out; never the query, which may
// be a signature, and never anything of the answer's body. docs/sources.md lists them with their codes.
import { STATUS_CODES } from 'node:http';
import { DomainError, TransientError } from '../platform/errors.ts';
import { describeServer, describeUrl, type HttpUrl } from './source-uri.ts';
import type { WireError } from './wire/wire-error.ts';

/** Names for programs, sent as google.rpc.ErrorInfo.reason. */
export type FailureReason =
  | 'SOURCE_STATUS'
  | 'SOURCE_REDIRECT'
  | 'SOURCE_NOT_A_FILE'
  | 'SOURCE_EMPTY'
  | 'SOURCE_ENCODED'
  | 'SOURCE_BAD_ANSWER'
  | 'SOURCE_UNTRUSTED'
  | 'SOURCE_CHANGED'
  | 'SOURCE_TOO_LARGE'
  | 'SOURCE_DIGEST_MISMATCH';

/** Final: trying again without a change at the source or in the request ends alike. */
export function sourceFailed(reason: FailureReason, message: string, cause?: unknown): DomainError {
  const code = reason === 'SOURCE_CHANGED' ? 'ABORTED' : 'FAILED_PRECONDITION';
  return new DomainError(code, message, [{ kind: 'errorInfo', reason }], { cause });
}

/** `403 Forbidden`: the reason phrase is the standard's, not the server's. */
export const describeStatus = (status: number): string => `${status} ${STATUS_CODES[status] ?? ''}`.trimEnd();

const adviceByStatus: Readonly<Record<number, string>> = {
  401: 'it asks for credentials; use a signed URL',
  403: 'access is forbidden, or the signature of the URL is wrong or has expired',
  404: 'there is no such file',
  407: 'a proxy asks for credentials',
  410: 'the file is gone',
};

export function statusFailed(url: HttpUrl, status: number, during: '' | ' while it was being read'): DomainError {
  const advice = adviceByStatus[status];
  return sourceFailed(
    'SOURCE_STATUS',
    `Source ${describeUrl(url)} answered ${describeStatus(status)}${during}${advice === undefined ? '' : `: ${advice}`}`,
  );
}

export const passingStatusFailed = (url: HttpUrl, status: number): TransientError =>
  new TransientError(`Source ${describeUrl(url)} keeps answering ${describeStatus(status)}; try again later`);

export const sourceChanged = (url: HttpUrl, how: string): DomainError =>
  sourceFailed('SOURCE_CHANGED', `Source ${describeUrl(url)} changed while it was being read (${how}); start the import again`);

export const badAnswer = (url: HttpUrl, what: string, cause?: unknown): DomainError =>
  sourceFailed('SOURCE_BAD_ANSWER', `Source ${describeUrl(url)} sent a wrong answer: ${what}`, cause);

/** One text for a closed, a filtered and a silent port, and for one where something else than a web server listens. */
const unreachable = (url: HttpUrl, cause: unknown): TransientError =>
  new TransientError(
    `Source server ${describeServer(url)} did not answer over ${url.protocol.slice(0, -1)}: check the URL, and that this service can reach it`,
    { cause },
  );

/** What is thrown once a wire error is not tried again. */
export function wireFailed(url: HttpUrl, error: WireError): DomainError | TransientError {
  switch (error.kind) {
    case 'unreachable':
      return unreachable(url, error);
    case 'untrusted':
      return sourceFailed(
        'SOURCE_UNTRUSTED',
        `The certificate of source server ${describeServer(url)} is not trusted (${error.message}); ` +
          'the operator adds certificate authorities with OBRAZ_IMPORT_CA_FILE',
        error,
      );
    case 'proxy':
      return new TransientError(`The proxy of this service does not lead to the source: ${error.message}`, { cause: error });
    case 'broken':
      return new TransientError(`Source ${describeUrl(url)} broke off: ${error.message}; try again later`, { cause: error });
    case 'malformed':
      return badAnswer(url, error.message, error);
  }
}

/** Files come as they are: what is packed for the way would have another length and other bytes at every offset. */
export function requireIdentity(url: HttpUrl, contentEncoding: string | undefined): void {
  if (contentEncoding === undefined || contentEncoding === '' || contentEncoding.toLowerCase() === 'identity') return;
  throw sourceFailed(
    'SOURCE_ENCODED',
    `Source ${describeUrl(url)} is sent with Content-Encoding "${contentEncoding.slice(0, 40)}" although it was asked for plain; ` +
      'serve the file as it is',
  );
}
