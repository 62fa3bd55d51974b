// A real web server that can be told to misbehave, for tests of imports. It serves one content under every path; what it does wrong
// is a Behaviour, the same for every request or chosen for each:
//
//   await using server = await startWebServer({ content: bytes });
//   server.behave({ ranges: 'ignored', etag: null });
//   server.behave((request) => (request.index < 3 ? {} : { etag: '"v2"' }));      the file changes half-way
//   server.behave(({ path }) => (path === '/moved' ? { redirect: { location: '/file' } } : {}));
//   expect(server.requests.map((request) => request.range)).to.deep.equal([...]);
//
// Without a behaviour it is a good server: HEAD, ranges, a strong ETag, Last-Modified, conditions, keep-alive.
import { createReadStream, statSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';

/** What the server does instead of being good. All of it can be combined where that makes sense. */
export interface Behaviour {
  /** 405 to HEAD. */
  head?: 'refused';
  /** Ignored: 200 with everything. A number: that status to every request for a range (416, 400). */
  ranges?: 'ignored' | 416 | 400;
  /** No Content-Length: the body ends with the connection, or is chunked. Also on 206. */
  length?: 'untilClose' | 'chunked';
  /** Default `"v1"`; null sends none. `W/"…"` is weak. */
  etag?: string | null;
  /** Default: a day in 2020; null sends none. */
  lastModified?: Date | null;
  /** If-Match, If-Range and If-Unmodified-Since are not looked at. */
  conditions?: 'ignored';
  contentType?: string;
  /** Sent as a header; the body stays as it is. */
  contentEncoding?: string;
  /** Serves these bytes instead, with all rules for ranges. */
  content?: Uint8Array;
  /** An answer without the content. */
  status?: number;
  body?: string;
  /** Added to any answer, replacing what is there. */
  headers?: Record<string, string>;
  redirect?: { status?: 301 | 302 | 303 | 307 | 308; location: string };
  /** Ends the connection after this many bytes of the body, by a clean close or a reset, though more was announced. */
  breakAfterBytes?: number;
  breakBy?: 'close' | 'reset';
  /** Makes the Content-Range of a 206 wrong. */
  contentRange?: (right: string) => string;
  /** Sends so many bytes at a time, and waits in between. */
  trickle?: { bytes: number; everyMs: number };
  /** Waits before it answers. */
  delayMs?: number;
  /** Accepts the request and never answers. */
  silent?: boolean;
}

export interface SeenRequest {
  /** Counts from 0 since the server was started. */
  index: number;
  method: string;
  /** With the query. */
  path: string;
  headers: IncomingMessage['headers'];
  /** Bytes [start, end) as asked for, Infinity for an open end; undefined when no range was asked for. */
  range: { start: number; end: number } | undefined;
}

export interface WebServerOptions {
  content: Uint8Array | { path: string };
  behaviour?: Behaviour | ((request: SeenRequest) => Behaviour);
  /** Makes it an HTTPS server; PEM. */
  tls?: { cert: string; key: string };
}

export interface WebServer extends AsyncDisposable {
  readonly port: number;
  /** `http://127.0.0.1:<port><path>`; https with `tls`, where the host is `localhost`. */
  url(path?: string): string;
  behave(behaviour: Behaviour | ((request: SeenRequest) => Behaviour)): void;
  readonly requests: readonly SeenRequest[];
  /** Connections that were opened, those of failed handshakes included. */
  readonly connectionCount: number;
  readonly openConnectionCount: number;
  /** Bytes of bodies handed to the network. */
  readonly bytesSent: number;
}

/** Listens on a free port of 127.0.0.1. */
export async function startWebServer(options: WebServerOptions): Promise<WebServer> {
  let behaviour = options.behaviour ?? {};
  const requests: SeenRequest[] = [];
  const sockets = new Set<Socket>();
  const closed = new AbortController();
  let connectionCount = 0;
  let bytesSent = 0;

  const listener: RequestListener = (incoming, response) => {
    const seen = see(incoming, requests.length);
    requests.push(seen);
    const now = typeof behaviour === 'function' ? behaviour(seen) : behaviour;
    answer(now, seen, response, now.content ?? options.content, closed.signal, (count) => (bytesSent += count)).catch(() => {
      response.destroy();
    });
  };
  const server = options.tls === undefined ? createHttpServer(listener) : createHttpsServer(options.tls, listener);
  server.on('connection', (socket: Socket) => {
    connectionCount += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => {});
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const origin = options.tls === undefined ? `http://127.0.0.1:${port}` : `https://localhost:${port}`;
  return {
    port,
    url: (path = '/disk.img') => origin + path,
    behave(next) {
      behaviour = next;
    },
    requests,
    get connectionCount() {
      return connectionCount;
    },
    get openConnectionCount() {
      return sockets.size;
    },
    get bytesSent() {
      return bytesSent;
    },
    async [Symbol.asyncDispose]() {
      closed.abort();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

type Content = WebServerOptions['content'];

const sizeOf = (content: Content): number => ('path' in content ? statSync(content.path).size : content.length);

const slice = (content: Content, start: number, end: number): Readable | Uint8Array =>
  'path' in content
    ? end > start
      ? createReadStream(content.path, { start, end: end - 1, highWaterMark: 1 << 20 })
      : new Uint8Array(0)
    : content.subarray(start, end);

function see(incoming: IncomingMessage, index: number): SeenRequest {
  const parts = /^bytes=(\d+)-(\d*)$/.exec(incoming.headers.range ?? '');
  const range =
    parts === null
      ? undefined
      : { start: Number(parts[1]), end: parts[2] === '' ? Number.POSITIVE_INFINITY : Number(parts[2]) + 1 };
  return { index, method: incoming.method ?? '', path: incoming.url ?? '', headers: incoming.headers, range };
}

async function answer(
  behaviour: Behaviour,
  request: SeenRequest,
  response: ServerResponse,
  content: Content,
  signal: AbortSignal,
  onSent: (byteCount: number) => void,
): Promise<void> {
  if (behaviour.silent === true) return;
  if (behaviour.delayMs !== undefined) await pause(behaviour.delayMs, undefined, { signal });
  const { status, headers, start, end } = plan(behaviour, request, sizeOf(content));
  const body = behaviour.body ?? '';
  const isWhole = start === undefined || end === undefined;
  const length = isWhole ? Buffer.byteLength(body) : end - start;
  if (behaviour.length !== undefined) response.useChunkedEncodingByDefault = behaviour.length === 'chunked';
  else headers['content-length'] = String(length);
  response.writeHead(status, { ...headers, ...behaviour.headers });
  if (request.method === 'HEAD') return void response.end();
  const bytes = isWhole ? Buffer.from(body) : slice(content, start, end);
  await send(behaviour, response, bytes, signal, onSent);
}

/** Status and headers; `start` and `end` when bytes of the content follow. */
function plan(behaviour: Behaviour, request: SeenRequest, sizeBytes: number) {
  const headers: Record<string, string> = {};
  if (behaviour.redirect !== undefined) {
    return {
      status: behaviour.redirect.status ?? 302,
      headers: { location: behaviour.redirect.location } as Record<string, string>,
    };
  }
  if (behaviour.status !== undefined) return { status: behaviour.status, headers };
  if (request.method === 'HEAD' && behaviour.head === 'refused') return { status: 405, headers };
  const etag = behaviour.etag === undefined ? '"v1"' : behaviour.etag;
  const lastModified = behaviour.lastModified === undefined ? new Date('2020-02-02T02:02:02Z') : behaviour.lastModified;
  if (etag !== null) headers['etag'] = etag;
  if (lastModified !== null) headers['last-modified'] = lastModified.toUTCString();
  headers['content-type'] = behaviour.contentType ?? 'application/octet-stream';
  if (behaviour.contentEncoding !== undefined) headers['content-encoding'] = behaviour.contentEncoding;
  if (behaviour.ranges === undefined) headers['accept-ranges'] = 'bytes';

  let { range } = request;
  if (behaviour.conditions !== 'ignored') {
    const { 'if-match': ifMatch, 'if-unmodified-since': since, 'if-range': ifRange } = request.headers;
    if (ifMatch !== undefined && (ifMatch !== etag || etag.startsWith('W/'))) return { status: 412, headers: {} };
    if (since !== undefined && lastModified !== null && lastModified > new Date(since)) return { status: 412, headers: {} };
    if (typeof ifRange === 'string' && ifRange !== etag && ifRange !== lastModified?.toUTCString()) range = undefined;
  }
  if (range === undefined || behaviour.ranges === 'ignored') return { status: 200, headers, start: 0, end: sizeBytes };
  if (behaviour.ranges !== undefined) return { status: behaviour.ranges, headers: {} };
  if (range.start >= sizeBytes) {
    return { status: 416, headers: { 'content-range': `bytes */${sizeBytes}` } as Record<string, string> };
  }
  const end = Math.min(range.end, sizeBytes);
  const contentRange = `bytes ${range.start}-${end - 1}/${sizeBytes}`;
  headers['content-range'] = behaviour.contentRange?.(contentRange) ?? contentRange;
  return { status: 206, headers, start: range.start, end };
}

async function send(
  behaviour: Behaviour,
  response: ServerResponse,
  bytes: Readable | Uint8Array,
  signal: AbortSignal,
  onSent: (byteCount: number) => void,
): Promise<void> {
  const { socket } = response;
  let left = behaviour.breakAfterBytes ?? Number.POSITIVE_INFINITY;
  const parts = bytes instanceof Readable ? bytes : cut(bytes, behaviour.trickle?.bytes ?? 1 << 20);
  for await (const whole of parts as AsyncIterable<Uint8Array>) {
    const part = whole.subarray(0, Math.min(left, whole.length));
    left -= part.length;
    onSent(part.length);
    const isAccepted = response.write(part);
    if (left <= 0) break;
    if (!isAccepted) await drained(response);
    if (response.destroyed) return;
    if (behaviour.trickle !== undefined) await pause(behaviour.trickle.everyMs, undefined, { signal });
  }
  if (left <= 0 || behaviour.breakAfterBytes === 0) {
    // A moment for the bytes to leave: a reset throws away what has not.
    await pause(20);
    if (behaviour.breakBy === 'reset') socket?.resetAndDestroy();
    else socket?.end();
  } else {
    response.end();
  }
}

function* cut(bytes: Uint8Array, partBytes: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += partBytes) yield bytes.subarray(at, at + partBytes);
}

const drained = (response: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.once('drain', done).once('close', done);
  });
