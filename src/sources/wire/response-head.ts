// The head of an HTTP/1.1 response (RFC 9112), parsed strictly: an answer that two readers could understand differently is refused.
import { malformed } from './wire-error.ts';

export interface ResponseHead {
  status: number;
  /** The value of a header, by lower-case name; undefined when it is missing. @throws WireError when it is there with two values. */
  header(name: string): string | undefined;
  /** How the body ends (RFC 9112 section 6.3). */
  framing: Framing;
  /** Whether the connection may carry another request after the body. */
  keepsAlive: boolean;
}

export type Framing = { kind: 'length'; lengthBytes: number } | { kind: 'chunked' } | { kind: 'untilClose' };

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** How every response that is understood here begins. */
export const httpStart = 'HTTP/1.';

/** @param text all lines with their line ends, in latin1, up to the empty line. @throws WireError malformed. */
export function parseResponseHead(text: string): ResponseHead {
  const [statusLine = '', ...lines] = text.split('\r\n');
  const start = /^HTTP\/1\.([01]) ([1-9]\d{2})(?: [\t\u0020-\u007e\u0080-\u00ff]*)?$/.exec(statusLine);
  if (start === null) throw malformed('the status line is not that of HTTP/1.0 or HTTP/1.1');
  const headers = parseHeaders(lines);
  const header = (name: string): string | undefined => {
    const [value, ...others] = headers.get(name) ?? [];
    if (others.some((other) => other !== value)) throw malformed(`header ${name} is sent twice with different values`);
    return value;
  };
  const isOld = start[1] === '0';
  const status = Number(start[2]);
  const framing = frame(status, isOld, header);
  const connection = (headers.get('connection') ?? []).join(',').toLowerCase();
  const says = (option: string): boolean => new RegExp(`(?:^|,)[ \\t]*${option}[ \\t]*(?:,|$)`).test(connection);
  const keepsAlive = framing.kind !== 'untilClose' && !says('close') && (!isOld || says('keep-alive'));
  return { status, header, framing, keepsAlive };
}

function parseHeaders(lines: readonly string[]): Map<string, string[]> {
  const headers = new Map<string, string[]>();
  for (const line of lines) {
    if (line === '') continue;
    const colonAt = line.indexOf(':');
    const name = line.slice(0, Math.max(colonAt, 0));
    const value = line.slice(colonAt + 1).replace(/^[ \t]+|[ \t]+$/g, '');
    // Folded lines begin with a space and fail here as well (RFC 9112 section 5.2).
    if (!token.test(name)) throw malformed('a header line is not of the form name: value');
    // eslint-disable-next-line no-control-regex
    if (/[\u0000-\u0008\u000a-\u001f\u007f]/.test(value)) throw malformed('a header value holds a control character');
    const key = name.toLowerCase();
    const values = headers.get(key);
    if (values === undefined) headers.set(key, [value]);
    else values.push(value);
  }
  return headers;
}

function frame(status: number, isOld: boolean, header: ResponseHead['header']): Framing {
  const lengthText = header('content-length');
  const transferEncoding = header('transfer-encoding')?.toLowerCase();
  if (lengthText !== undefined && !/^\d{1,16}$/.test(lengthText)) throw malformed('Content-Length is not a number');
  if (transferEncoding !== undefined) {
    if (lengthText !== undefined) throw malformed('both Content-Length and Transfer-Encoding are sent');
    if (isOld || transferEncoding !== 'chunked') throw malformed('Transfer-Encoding is not "chunked" of HTTP/1.1');
  }
  if (status < 200 || status === 204 || status === 304) return { kind: 'length', lengthBytes: 0 };
  if (transferEncoding !== undefined) return { kind: 'chunked' };
  if (lengthText === undefined) return { kind: 'untilClose' };
  const lengthBytes = Number(lengthText);
  if (!Number.isSafeInteger(lengthBytes)) throw malformed('Content-Length is too large');
  return { kind: 'length', lengthBytes };
}
