// A disk that is open over NBD, one request at a time: what was answered is known exactly.
import { setTimeout as sleep } from 'node:timers/promises';
import { NbdClient, request } from './nbd-client.ts';

const fuaFlag = 1;

export class AttachedDisk implements AsyncDisposable {
  readonly client: NbdClient;

  private constructor(client: NbdClient) {
    this.client = client;
  }

  /** `address` is host:port or the path of a socket. @throws Error `GO was refused: …` with the server's words. */
  static async open(address: string, name: string): Promise<AttachedDisk> {
    return new AttachedDisk(await NbdClient.opened(address, name));
  }

  async write(offset: number, data: Uint8Array, { fua = false } = {}): Promise<void> {
    this.client.send(request('write', { offset, length: data.length, flags: fua ? fuaFlag : 0 }), data);
    await this.#answer();
  }

  async flush(): Promise<void> {
    this.client.send(request('flush'));
    await this.#answer();
  }

  async trim(offset: number, length: number): Promise<void> {
    this.client.send(request('trim', { offset, length }));
    await this.#answer();
  }

  async read(offset: number, length: number): Promise<Buffer> {
    this.client.send(request('read', { offset, length }));
    return this.#answer(length);
  }

  /** @throws Error `errno <n>`, or that the connection has ended. */
  async #answer(dataBytes = 0): Promise<Buffer> {
    const { error, data } = await this.client.simpleReply(dataBytes);
    if (error !== 0) throw new Error(`errno ${error}`);
    return data;
  }

  /** Says goodbye, and waits until the server has closed the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.client.socket.destroyed) {
      this.client.send(request('disconnect'));
      await this.client.closed().catch(() => {});
    }
    this.client[Symbol.dispose]();
  }
}

/** Looks until it is true, at most a minute. */
export async function eventually(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  for (const deadline = Date.now() + 60_000; !(await condition()); await sleep(50)) {
    if (Date.now() > deadline) throw new Error(`did not come true within a minute: ${what}`);
  }
}
