// The one way in which content-addressed objects are put: ask for admission, rely on a whole object that is there already, replace one
// that is damaged or was condemned. Chunks and pages share it.
import type { Address } from './address.ts';
import { type Admission, admitAll } from './admission.ts';
import type { BlobStore, PutOptions } from './blob-store.ts';
import type { CorruptMarks } from './damage.ts';
import { type ObjectKind, objectKey } from './paths.ts';

export interface DepositParts {
  blobs: BlobStore;
  marks: CorruptMarks;
  admission?: Admission | undefined;
  /** As PutOptions. */
  warm?: boolean | undefined;
}

export interface Depositable {
  address: Address;
  parts: readonly Uint8Array[];
}

export class Deposit {
  readonly #blobs: BlobStore;
  readonly #marks: CorruptMarks;
  readonly #admission: Admission;
  readonly #warm: boolean;
  readonly #kind: ObjectKind;
  readonly #looksWhole: (address: Address, sizeBytes: number) => Promise<boolean>;

  /** @param looksWhole a cheap look at an object that exists; a deep one would read as much as a put writes. */
  constructor(
    kind: ObjectKind,
    { blobs, marks, admission = admitAll, warm = false }: DepositParts,
    looksWhole: (address: Address, sizeBytes: number) => Promise<boolean>,
  ) {
    this.#kind = kind;
    this.#blobs = blobs;
    this.#marks = marks;
    this.#admission = admission;
    this.#warm = warm;
    this.#looksWhole = looksWhole;
  }

  /** Durable when it resolves. True when the bytes were written, false when they were there. */
  async put({ address, parts }: Depositable, { signal, onTaken }: Pick<PutOptions, 'signal' | 'onTaken'> = {}): Promise<boolean> {
    const key = objectKey(this.#kind, address);
    const warm = this.#warm;
    const [admitted] = await this.#admission([key], signal);
    if (admitted === undefined) throw new Error('admission gave no answer');
    const existing = await this.#blobs.stat(key);
    if (existing === undefined) {
      await this.#blobs.put(key, parts, { replace: admitted === 'rewrite', warm, signal, onTaken });
      return true;
    }
    const isMarked = await this.#marks.has(this.#kind, address);
    const reliable = admitted === 'fresh' && !isMarked && (await this.#looksWhole(address, existing.sizeBytes));
    // Not skipped when the object is reliable: the driver makes sure that what another process has just written is durable.
    await this.#blobs.put(key, parts, { replace: !reliable, warm, signal, onTaken });
    if (isMarked) await this.#marks.clear(this.#kind, address);
    return !reliable;
  }
}
