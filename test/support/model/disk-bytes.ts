// What a disk must read as: the bytes that were answered last, and, sector by sector, what may be there instead after a crash or for a
// request that was never answered. A sector of 4096 bytes is old or new, never a mixture.

export const sectorBytes = 4096;

export interface Change {
  kind: 'write' | 'trim' | 'writeZeroes';
  offset: number;
  length: number;
  /** Of a write. */
  data?: Buffer;
  /** Durable when it is answered. */
  fua: boolean;
  /** Of a write of zeros: the range stays allocated. */
  noHole?: boolean;
}

export const sectorsOf = ({ offset, length }: Pick<Change, 'offset' | 'length'>): number[] => {
  const first = Math.floor(offset / sectorBytes);
  return Array.from({ length: Math.ceil((offset + length) / sectorBytes) - first }, (_, index) => first + index);
};

export class DiskBytes {
  bytes: Buffer;
  /** What sectors held since they were durable: a crash may bring it back. */
  readonly #unflushed = new Map<number, Buffer[]>();
  /** What sectors may hold now besides `bytes`. */
  readonly #possible = new Map<number, Buffer[]>();

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  /** More than `bytes` is possible. */
  get isUncertain(): boolean {
    return this.#possible.size > 0;
  }

  acknowledged(change: Change): void {
    for (const sector of sectorsOf(change)) {
      if (change.fua) this.#unflushed.delete(sector);
      else push(this.#unflushed, sector, this.#copy(sector));
    }
    apply(this.bytes, change);
  }

  /** Never answered: it may have happened. */
  unanswered(change: Change): void {
    const after = Buffer.from(this.bytes);
    apply(after, change);
    for (const sector of sectorsOf(change)) push(this.#possible, sector, Buffer.from(sectorAt(after, sector)));
  }

  /** What was answered before the flush is durable. */
  flushed(): void {
    this.#unflushed.clear();
  }

  /** The service died: what was not durable may be lost. */
  crashed(): void {
    for (const [sector, versions] of this.#unflushed) for (const version of versions) push(this.#possible, sector, version);
    this.#unflushed.clear();
  }

  /** Looks at all that is there. What was seen once stays. @throws Error that says what is wrong where. */
  settle(actual: Buffer): void {
    if (actual.length !== this.bytes.length) throw new Error(`${actual.length} bytes instead of ${this.bytes.length}`);
    if (!actual.equals(this.bytes)) {
      for (let sector = 0; sector * sectorBytes < actual.length; sector += 1) this.#assertSector(actual, sector);
    }
    this.bytes = actual;
    this.#possible.clear();
    this.#unflushed.clear();
  }

  #assertSector(actual: Buffer, sector: number): void {
    const found = sectorAt(actual, sector);
    const expected = sectorAt(this.bytes, sector);
    const possible = this.#possible.get(sector) ?? [];
    if (found.equals(expected) || possible.some((version) => found.equals(version))) return;
    throw new Error(
      `sector ${sector} is ${describeSector(found)}, not ${[expected, ...possible].map(describeSector).join(' or ')}`,
    );
  }

  grow(sizeBytes: number): void {
    this.bytes = Buffer.concat([this.bytes, Buffer.alloc(sizeBytes - this.bytes.length)]);
  }

  /** Of a disk made of it, which is durable. */
  clone(sizeBytes = this.bytes.length): DiskBytes {
    const bytes = Buffer.alloc(sizeBytes);
    this.bytes.copy(bytes);
    return new DiskBytes(bytes);
  }

  /** With the same doubts. */
  fork(): DiskBytes {
    const fork = this.clone();
    for (const [sector, versions] of this.#possible) fork.#possible.set(sector, [...versions]);
    return fork;
  }

  #copy(sector: number): Buffer {
    return Buffer.from(sectorAt(this.bytes, sector));
  }
}

const sectorAt = (bytes: Buffer, sector: number): Buffer => bytes.subarray(sector * sectorBytes, (sector + 1) * sectorBytes);

export const apply = (bytes: Buffer, { offset, length, data }: Change): void => {
  if (data === undefined) bytes.fill(0, offset, offset + length);
  else data.copy(bytes, offset);
};

function push(map: Map<number, Buffer[]>, sector: number, version: Buffer): void {
  const versions = map.get(sector);
  if (versions === undefined) map.set(sector, [version]);
  else versions.push(version);
}

/** The first bytes of what is not zero. */
function describeSector(bytes: Buffer): string {
  const at = bytes.findIndex((byte) => byte !== 0);
  return at === -1 ? 'zeros' : `${bytes.subarray(at, at + 12).toString('hex')}… at ${at}`;
}
