// A device that only reads one layer: an image, a snapshot, or a disk as it was when it was opened. Any number may read the same.
import { BlockDeviceError, type BlockDevice, type BlockRun } from '../nbd/block-device.ts';
import type { LayerView } from '../storage/layer-view.ts';
import { asDeviceError } from './device-errors.ts';
import type { Lease } from './lease.ts';

/** What every client can use: some take this for the size of a sector. */
export const preferredBlockBytes = 4096;

export class LayerReader implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly = true;
  readonly preferredBlockBytes = preferredBlockBytes;
  readonly multiConn = true;
  readonly ended: AbortSignal;
  readonly #view: LayerView;
  readonly #close: () => Promise<void>;

  constructor(view: LayerView, lease: Lease, close: () => Promise<void>) {
    this.#view = view;
    this.sizeBytes = view.sizeBytes;
    this.ended = lease.ended;
    this.#close = close;
  }

  readNow(target: Uint8Array, offset: number): boolean {
    return !this.ended.aborted && this.#view.readNow(target, offset);
  }

  async read(target: Uint8Array, offset: number, signal: AbortSignal): Promise<void> {
    try {
      await this.#view.read(target, offset, signal);
    } catch (error) {
      throw asDeviceError(error);
    }
  }

  async blockStatus(offset: number, length: number, maxRuns: number, signal: AbortSignal): Promise<BlockRun[]> {
    try {
      return await this.#view.extents(offset, length, maxRuns, signal);
    } catch (error) {
      throw asDeviceError(error);
    }
  }

  async flush(): Promise<void> {}

  write(): Promise<void> {
    return refused();
  }

  trim(): Promise<void> {
    return refused();
  }

  writeZeroes(): Promise<void> {
    return refused();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close();
  }
}

const refused = (): Promise<never> => Promise.reject(new BlockDeviceError('EPERM', 'the export is read-only'));
