// A BlockDevice in memory, for tests and benches of NBD: it counts what it is asked, can be slow, and can fail on demand.
import { type BlockDevice, BlockDeviceError, type BlockRun, type WriteZeroesOptions } from '../../src/nbd/block-device.ts';
import { type ExportInfo, type ExportProvider, ExportRefused, type NbdPeer } from '../../src/nbd/export-provider.ts';

export interface MemoryDeviceOptions {
  readOnly?: boolean;
  multiConn?: boolean;
  /** Whether reads are answered by readNow. Default: yes. */
  readsNow?: boolean;
  /** Default: yes. */
  recordsCalls?: boolean;
  /** Runs before each call; may wait or throw. */
  before?: (call: string, signal: AbortSignal) => Promise<void>;
}

/** What base:allocation is told in. */
const blockBytes = 64 * 1024;
const zeros = Buffer.alloc(blockBytes);

export class MemoryDevice implements BlockDevice {
  readonly bytes: Buffer;
  readonly readOnly: boolean;
  readonly multiConn: boolean;
  readonly preferredBlockBytes = 4096;
  readonly readNow?: (target: Uint8Array, offset: number) => boolean;
  /** Every call in order, with what matters of its arguments: `write 0+4096 fua`. */
  readonly calls: string[] = [];
  opens = 0;
  disposals = 0;
  #inFlight = 0;
  readonly #ended = new AbortController();
  readonly #before: MemoryDeviceOptions['before'];
  readonly #recordsCalls: boolean;

  constructor(
    bytes: Buffer,
    { readOnly = false, multiConn = readOnly, readsNow = true, recordsCalls = true, before }: MemoryDeviceOptions = {},
  ) {
    this.#recordsCalls = recordsCalls;
    this.bytes = bytes;
    this.readOnly = readOnly;
    this.multiConn = multiConn;
    this.#before = before;
    if (readsNow) {
      this.readNow = (target, offset) => {
        target.set(this.bytes.subarray(offset, offset + target.length));
        return true;
      };
    }
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  end(): void {
    this.#ended.abort();
  }

  async read(target: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
    await this.#call(`read ${offset}+${target.length}`, signal, () =>
      target.set(this.bytes.subarray(offset, offset + target.length)),
    );
  }

  async write(data: Uint8Array, offset: number, fua: boolean, signal: AbortSignal): Promise<void> {
    await this.#call(`write ${offset}+${data.length}${fua ? ' fua' : ''}`, signal, () => this.bytes.set(data, offset));
  }

  async flush(signal: AbortSignal): Promise<void> {
    await this.#call('flush', signal, () => undefined);
  }

  async trim(offset: number, length: number, fua: boolean, signal: AbortSignal): Promise<void> {
    await this.#call(`trim ${offset}+${length}${fua ? ' fua' : ''}`, signal, () => this.bytes.fill(0, offset, offset + length));
  }

  async writeZeroes(offset: number, length: number, options: WriteZeroesOptions, signal: AbortSignal): Promise<void> {
    const { fua, mayTrim, fast } = options;
    const marks = `${fua ? ' fua' : ''}${mayTrim ? '' : ' no-hole'}${fast ? ' fast' : ''}`;
    await this.#call(`zero ${offset}+${length}${marks}`, signal, () => {
      if (fast && !mayTrim) throw new BlockDeviceError('ENOTSUP', 'only holes are fast');
      this.bytes.fill(0, offset, offset + length);
    });
  }

  async blockStatus(offset: number, length: number, maxRuns: number, signal: AbortSignal): Promise<BlockRun[]> {
    const runs: BlockRun[] = [];
    await this.#call(`status ${offset}+${length} of ${maxRuns}`, signal, () => {
      for (let at = offset; at < offset + length && runs.length < maxRuns;) {
        const end = Math.min(this.sizeBytes, (Math.floor(at / blockBytes) + 1) * blockBytes);
        const zero = this.bytes.compare(zeros, 0, end - at, at, end) === 0;
        const last = runs.at(-1);
        if (last?.zero === zero) last.length += end - at;
        else runs.push({ length: end - at, hole: zero, zero });
        at = end;
      }
    });
    return runs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#inFlight > 0) throw new Error(`disposed with ${this.#inFlight} calls in flight`);
    this.disposals += 1;
  }

  async #call(name: string, signal: AbortSignal, work: () => void): Promise<void> {
    if (this.#recordsCalls) this.calls.push(name);
    this.#inFlight += 1;
    try {
      await this.#before?.(name, signal);
      work();
    } finally {
      this.#inFlight -= 1;
    }
  }
}

/** Exports by name; `opened` sees who asks. */
export class MemoryExports implements ExportProvider {
  readonly devices: Map<string, MemoryDevice>;
  readonly peers: NbdPeer[] = [];

  constructor(devices: Record<string, MemoryDevice>) {
    this.devices = new Map(Object.entries(devices));
  }

  async list(): Promise<ExportInfo[]> {
    return [...this.devices.keys()].map((name) => this.#info(name));
  }

  async info(name: string): Promise<ExportInfo> {
    return this.#info(name);
  }

  async open(name: string, peer: NbdPeer): Promise<BlockDevice> {
    this.peers.push(peer);
    const device = this.#device(name);
    device.opens += 1;
    return device;
  }

  #info(name: string): ExportInfo {
    const { sizeBytes, readOnly, preferredBlockBytes, multiConn } = this.#device(name);
    return { name, description: `the export ${name}`, sizeBytes, readOnly, preferredBlockBytes, multiConn };
  }

  #device(name: string): MemoryDevice {
    const device = this.devices.get(name);
    if (device === undefined) throw new ExportRefused('UNKNOWN', `there is no export of that name`);
    return device;
  }
}
