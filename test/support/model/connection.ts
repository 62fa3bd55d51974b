// An NBD connection that keeps many requests under way, and knows of each whether it was answered.
import { CommandFlag } from '../../../src/nbd/protocol.ts';
import { NbdClient, request } from '../nbd-client.ts';
import type { Change } from './disk-bytes.ts';

const readBytes = 1024 * 1024;

export type Request = Change | { kind: 'read'; offset: number; length: number };

export interface Outcome<R extends Request = Request> {
  request: R;
  /** Undefined: the connection ended before the answer. */
  error: number | undefined;
  /** Of a read. */
  data: Buffer;
}

export class ModelConnection {
  readonly #client: NbdClient;
  readonly #sent = new Map<bigint, Request>();
  #cookie = 0n;

  private constructor(client: NbdClient) {
    this.#client = client;
  }

  /** @throws Error `GO was refused: …` with the server's words. */
  static async open(socket: string, name: string): Promise<ModelConnection> {
    return new ModelConnection(await NbdClient.opened(socket, name));
  }

  /** Sends them all, and does not wait. */
  send(requests: readonly Request[]): void {
    this.#client.send(...requests.flatMap((each) => this.#encode(each)));
  }

  #encode(each: Request): Buffer[] {
    const { kind, offset, length } = each;
    this.#cookie += 1n;
    this.#sent.set(this.#cookie, each);
    if (kind === 'read') return [request('read', { cookie: this.#cookie, offset, length })];
    const flags = (each.fua ? CommandFlag.fua : 0) | (each.noHole === true ? CommandFlag.noHole : 0);
    return [request(kind, { cookie: this.#cookie, flags, offset, length }), each.data ?? Buffer.alloc(0)];
  }

  /** Waits for all answers, in whichever order they come, or for the end of the connection. */
  async outcomes(): Promise<Outcome[]> {
    const outcomes: Outcome[] = [];
    while (this.#sent.size > 0) {
      const outcome = await this.#next().catch(() => undefined);
      if (outcome === undefined) break;
      outcomes.push(outcome);
    }
    for (const each of this.#sent.values()) outcomes.push({ request: each, error: undefined, data: Buffer.alloc(0) });
    this.#sent.clear();
    return outcomes;
  }

  async #next(): Promise<Outcome> {
    const header = await this.#client.take(16);
    if (header.readUInt32BE(0) !== 0x67446698) throw new Error('not a simple reply');
    const cookie = header.readBigUInt64BE(8);
    const each = this.#sent.get(cookie);
    if (each === undefined) throw new Error(`an answer to ${cookie}, which was not asked`);
    const error = header.readUInt32BE(4);
    const data = await this.#client.take(error === 0 && each.kind === 'read' ? each.length : 0);
    this.#sent.delete(cookie);
    return { request: each, error, data };
  }

  async #all(requests: readonly Request[]): Promise<Outcome[]> {
    this.send(requests);
    const outcomes = await this.outcomes();
    for (const { error, request: each } of outcomes) {
      if (error !== 0)
        throw new Error(`${each.kind} at ${each.offset}: ${error === undefined ? 'not answered' : `errno ${error}`}`);
    }
    return outcomes;
  }

  async change(change: Change): Promise<void> {
    await this.#all([change]);
  }

  async flush(): Promise<void> {
    this.#client.send(request('flush'));
    const { error } = await this.#client.simpleReply();
    if (error !== 0) throw new Error(`flush: errno ${error}`);
  }

  /** Of a disk of this size. */
  async readAll(sizeBytes: number): Promise<Buffer> {
    const all = Buffer.alloc(sizeBytes);
    for (let group = 0; group < sizeBytes; group += 4 * readBytes) {
      const requests: Request[] = [];
      for (let offset = group; offset < Math.min(sizeBytes, group + 4 * readBytes); offset += readBytes)
        requests.push({ kind: 'read', offset, length: Math.min(readBytes, sizeBytes - offset) });
      for (const { request: each, data } of await this.#all(requests)) data.copy(all, each.offset);
    }
    return all;
  }

  /** Says goodbye, and waits until the server has closed the connection. */
  async close(): Promise<void> {
    this.#client.send(request('disconnect'));
    await this.#client.closed();
    this.drop();
  }

  /** Without a word. */
  drop(): void {
    this.#client[Symbol.dispose]();
  }
}
