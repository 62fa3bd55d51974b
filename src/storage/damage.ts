// Objects that are not what their address says. Inside the readers of one object it is a Damage; once the object was read again and is
// still wrong, it becomes a CorruptObjectError, is counted, and the object is marked, so that whichever process puts that address next
// writes it anew instead of relying on it.
import type { Address, ChunkAddress, PageAddress } from './address.ts';
import { type BlobStore, BlobNotFoundError } from './blob-store.ts';
import { DomainError, TransientError } from '../platform/errors.ts';
import { type ObjectKind, corruptMarkKey, objectKey } from './paths.ts';

/** A reader found bytes that cannot be right. `message` goes on after "the object is damaged: ". */
export class Damage extends Error {
  override readonly name = 'Damage';
  /** There is no object at all, so nothing to mark: the next put writes it anyway. */
  readonly missing: boolean;

  constructor(message: string, missing = false) {
    super(message);
    this.missing = missing;
  }
}

export interface CorruptFinding {
  kind: ObjectKind;
  address: Address;
  reason: string;
}

/** Is told of every damaged or missing object that a read met: a metric and a log line. Must not throw. */
export type OnCorrupt = (finding: CorruptFinding) => void;

/** Stored bytes are damaged or gone: an error, never data. */
class CorruptObjectError extends DomainError {
  readonly finding: CorruptFinding;

  constructor(what: string, finding: CorruptFinding) {
    super('DATA_LOSS', `stored data cannot be read: ${what} ${finding.address} is damaged: ${finding.reason}`);
    this.finding = finding;
  }
}

export class ChunkCorruptError extends CorruptObjectError {
  constructor(address: ChunkAddress, reason: string) {
    super('chunk', { kind: 'chunks', address, reason });
  }
}

export class PageCorruptError extends CorruptObjectError {
  constructor(address: PageAddress, reason: string) {
    super('page', { kind: 'pages', address, reason });
  }
}

/** What reading one object throws when the object is to blame: a hole where it should be, or shorter than it should be. */
export function asDamage(error: unknown): Damage | undefined {
  if (error instanceof Damage) return error;
  if (error instanceof BlobNotFoundError) return new Damage('it is missing', true);
  if (error instanceof RangeError) return new Damage('it is too short');
  return undefined;
}

/** The marks that readers leave on damaged objects. They are advice: losing one costs another failing read. */
export class CorruptMarks {
  readonly #blobs: BlobStore;
  readonly #onCorrupt: OnCorrupt;

  constructor(blobs: BlobStore, onCorrupt: OnCorrupt) {
    this.#blobs = blobs;
    this.#onCorrupt = onCorrupt;
  }

  /** Counts a damaged object and marks it. */
  async report(kind: ObjectKind, address: Address, damage: Damage): Promise<void> {
    const finding = { kind, address, reason: damage.message };
    this.#onCorrupt(finding);
    if (damage.missing) return;
    const mark = Buffer.from(`${JSON.stringify({ reason: finding.reason, foundAt: new Date().toISOString() })}\n`);
    await this.#blobs.put(this.#key(kind, address), [mark]).catch((error: unknown) => {
      // A store that takes no writes now can still be read.
      if (!(error instanceof TransientError)) throw error;
    });
  }

  async has(kind: ObjectKind, address: Address): Promise<boolean> {
    return (await this.#blobs.stat(this.#key(kind, address))) !== undefined;
  }

  async clear(kind: ObjectKind, address: Address): Promise<void> {
    await this.#blobs.delete(this.#key(kind, address));
  }

  #key(kind: ObjectKind, address: Address): string {
    return corruptMarkKey(objectKey(kind, address));
  }
}
