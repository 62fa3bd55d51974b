// An NBD client of bytes, for tests of what real clients never do: it says exactly what it is told to, and reads exactly what it asks for.
// Everything waits at most 20 s, which only catches hangs.
import { type Socket, connect } from 'node:net';
import { Command } from '../../src/nbd/protocol.ts';

const limitMs = 20_000;

export interface OptionAnswer {
  reply: number;
  data: Buffer;
}

export interface Chunk {
  done: boolean;
  type: number;
  cookie: bigint;
  payload: Buffer;
}

export class NbdClient implements Disposable {
  readonly socket: Socket;
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #wake: () => void = () => undefined;
  #closed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (part) => {
      this.#received.push(part);
      this.#receivedBytes += part.length;
      this.#wake();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#closed = true;
      this.#wake();
    });
  }

  static async connect(address: string): Promise<NbdClient> {
    const [, host, port] = /^(.*):(\d+)$/.exec(address) ?? [];
    const socket = port === undefined ? connect(address) : connect(Number(port), host);
    const client = new NbdClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return client;
  }

  /** After the greeting and the client's flags. */
  static async greeted(address: string, flags = 3): Promise<NbdClient> {
    const client = await NbdClient.connect(address);
    await client.take(18);
    client.send(uint32(flags));
    return client;
  }

  /** In the transmission phase of an export. */
  static async opened(address: string, name: string, { structured = false } = {}): Promise<NbdClient> {
    const client = await NbdClient.greeted(address);
    if (structured) {
      await client.option(8);
      await client.option(10, contextQueries(name, 'base:allocation'));
    }
    const answers = await client.option(7, infoRequest(name));
    if (answers.at(-1)?.reply === 1) return client;
    // It would stay open, and count as one that is shaking hands.
    client[Symbol.dispose]();
    throw new Error(`GO was refused: ${answers.at(-1)?.data.toString()}`);
  }

  send(...parts: Uint8Array[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  /** @throws Error when the connection ends before, or nothing comes. */
  async take(length: number): Promise<Buffer> {
    await this.#until(() => this.#receivedBytes >= length || this.#closed, `${length} bytes`);
    const received = Buffer.concat(this.#received);
    if (received.length < length) throw new Error(`closed after ${received.length} of ${length} bytes`);
    this.#received = [received.subarray(length)];
    this.#receivedBytes -= length;
    return received.subarray(0, length);
  }

  /** Until the server has closed the connection; what came before that. */
  async closed(): Promise<Buffer> {
    await this.#until(() => this.#closed, 'the end of the connection');
    return Buffer.concat(this.#received);
  }

  async #until(isTrue: () => boolean, what: string): Promise<void> {
    const deadline = setTimeout(() => this.socket.destroy(new Error('too late')), limitMs);
    const startedAt = Date.now();
    while (!isTrue()) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    clearTimeout(deadline);
    if (Date.now() - startedAt >= limitMs) throw new Error(`waited for ${what} in vain`);
  }

  /** Sends an option and answers everything that is said to it. */
  async option(option: number, data: Uint8Array = Buffer.alloc(0)): Promise<OptionAnswer[]> {
    this.send(optionMessage(option, data));
    const answers: OptionAnswer[] = [];
    for (;;) {
      const header = await this.take(20);
      if (header.readBigUInt64BE(0) !== 0x3e889045565a9n || header.readUInt32BE(8) !== option) throw new Error('not a reply');
      const reply = header.readUInt32BE(12);
      answers.push({ reply, data: await this.take(header.readUInt32BE(16)) });
      if (reply === 1 || reply >= 0x8000_0000) return answers;
    }
  }

  /** The answer to one request without data. */
  async simpleReply(dataBytes = 0): Promise<{ error: number; cookie: bigint; data: Buffer }> {
    const header = await this.take(16);
    if (header.readUInt32BE(0) !== 0x67446698) throw new Error('not a simple reply');
    const error = header.readUInt32BE(4);
    return { error, cookie: header.readBigUInt64BE(8), data: await this.take(error === 0 ? dataBytes : 0) };
  }

  async chunk(): Promise<Chunk> {
    const header = await this.take(20);
    if (header.readUInt32BE(0) !== 0x668e33ef) throw new Error('not a chunk');
    const payload = await this.take(header.readUInt32BE(16));
    return {
      done: (header.readUInt16BE(4) & 1) === 1,
      type: header.readUInt16BE(6),
      cookie: header.readBigUInt64BE(8),
      payload,
    };
  }

  async chunks(): Promise<Chunk[]> {
    const chunks = [await this.chunk()];
    while (!chunks.at(-1)!.done) chunks.push(await this.chunk());
    return chunks;
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

export const optionMessage = (option: number, data: Uint8Array = Buffer.alloc(0), declaredBytes = data.length): Buffer =>
  Buffer.concat([Buffer.from('IHAVEOPT'), uint32(option), uint32(declaredBytes), data]);

export const infoRequest = (name: string, ...infos: number[]): Buffer =>
  Buffer.concat([uint32(Buffer.byteLength(name)), Buffer.from(name), uint16(infos.length), ...infos.map(uint16)]);

export const contextQueries = (name: string, ...queries: string[]): Buffer =>
  Buffer.concat([
    uint32(Buffer.byteLength(name)),
    Buffer.from(name),
    uint32(queries.length),
    ...queries.flatMap((query) => [uint32(Buffer.byteLength(query)), Buffer.from(query)]),
  ]);

export interface RequestFields {
  magic?: number;
  flags?: number;
  cookie?: bigint;
  offset?: number | bigint;
  length?: number;
}

export function request(
  command: keyof typeof Command | number,
  { magic = 0x25609513, flags = 0, cookie = 7n, offset = 0, length = 0 }: RequestFields = {},
): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(magic, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(typeof command === 'number' ? command : Command[command], 6);
  bytes.writeBigUInt64BE(cookie, 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

export function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Fields in hex, one after the other. */
export const joined = (...fields: string[]): string => fields.join('');
