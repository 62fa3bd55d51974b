// A Qcow2 file in memory, cluster by cluster, for what qemu-img does not write: wrong fields, odd tables, huge sizes.

export interface Qcow2FileOptions {
  version?: 2 | 3;
  clusterBits?: number;
  sizeBytes?: number;
  /** Entries of the L1 table; default: as many as the size needs. */
  l1Size?: number;
  extendedL2?: boolean;
  zstd?: boolean;
  extensions?: { type: number; data: Buffer }[];
}

export class Qcow2File {
  readonly clusterBytes: number;
  readonly #options: Required<Qcow2FileOptions>;
  readonly #clusters: Buffer[] = [];
  readonly #l1At: number;
  readonly #l2At = new Map<number, number>();

  constructor(options: Qcow2FileOptions = {}) {
    const clusterBits = options.clusterBits ?? 16;
    this.clusterBytes = 2 ** clusterBits;
    const sizeBytes = options.sizeBytes ?? 16 * this.clusterBytes;
    const coverage = (this.clusterBytes / (options.extendedL2 ? 16 : 8)) * this.clusterBytes;
    this.#options = {
      version: 3,
      clusterBits,
      sizeBytes,
      l1Size: Math.ceil(sizeBytes / coverage),
      extendedL2: false,
      zstd: false,
      extensions: [],
      ...options,
    };
    // The header, the refcount table, an empty refcount block, the L1 table.
    for (let cluster = 0; cluster < 3; cluster += 1) this.append();
    this.#l1At = this.append(Math.max(1, Math.ceil((this.#options.l1Size * 8) / this.clusterBytes)));
    this.#writeHeader();
  }

  /** Adds whole clusters at the end; answers the offset of the first. */
  append(count = 1): number {
    const at = this.#clusters.length * this.clusterBytes;
    for (let index = 0; index < count; index += 1) this.#clusters.push(Buffer.alloc(this.clusterBytes));
    return at;
  }

  /** Adds a cluster of data; answers its offset. */
  appendData(fill: number): number {
    const at = this.append();
    this.#clusters[at / this.clusterBytes]!.fill(fill);
    return at;
  }

  write(at: number, bytes: Uint8Array): void {
    for (let index = 0; index < bytes.length;) {
      const cluster = this.#clusters[Math.floor((at + index) / this.clusterBytes)]!;
      const inside = (at + index) % this.clusterBytes;
      const length = Math.min(bytes.length - index, this.clusterBytes - inside);
      cluster.set(bytes.subarray(index, index + length), inside);
      index += length;
    }
  }

  writeUInt64(at: number, value: bigint): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(value);
    this.write(at, bytes);
  }

  setL1(index: number, entry: bigint): void {
    this.writeUInt64(this.#l1At + index * 8, entry);
  }

  get l1At(): number {
    return this.#l1At;
  }

  /** Sets the L2 entry of a guest cluster, making its table where there is none. `bitmap` is for extended entries. */
  setL2(guestCluster: number, entry: bigint, bitmap = 0n): void {
    const entryBytes = this.#options.extendedL2 ? 16 : 8;
    const perTable = this.clusterBytes / entryBytes;
    const l1Index = Math.floor(guestCluster / perTable);
    let at = this.#l2At.get(l1Index);
    if (at === undefined) {
      at = this.append();
      this.#l2At.set(l1Index, at);
      this.setL1(l1Index, BigInt(at) | (1n << 63n));
    }
    const place = at + (guestCluster % perTable) * entryBytes;
    this.writeUInt64(place, entry);
    if (entryBytes === 16) this.writeUInt64(place + 8, bitmap);
  }

  /** The descriptor of a compressed cluster (section "Compressed Clusters Descriptor"). */
  compressedEntry(at: number, length: number): bigint {
    const shift = BigInt(62 - (this.#options.clusterBits - 8));
    const sectors = Math.floor((at + length - 1) / 512) - Math.floor(at / 512);
    return (1n << 62n) | (BigInt(sectors) << shift) | BigInt(at);
  }

  /** The whole file, cut at `lengthBytes`. */
  bytes(lengthBytes?: number): Buffer {
    return Buffer.concat(this.#clusters).subarray(0, lengthBytes);
  }

  #writeHeader(): void {
    const { version, clusterBits, sizeBytes, l1Size, extendedL2, zstd, extensions } = this.#options;
    const header = Buffer.alloc(version === 3 ? 112 : 72);
    header.write('QFI\xfb', 'latin1');
    header.writeUInt32BE(version, 4);
    header.writeUInt32BE(clusterBits, 20);
    header.writeBigUInt64BE(BigInt(sizeBytes), 24);
    header.writeUInt32BE(l1Size, 36);
    header.writeBigUInt64BE(BigInt(this.#l1At), 40);
    header.writeBigUInt64BE(BigInt(this.clusterBytes), 48);
    header.writeUInt32BE(1, 56);
    if (version === 3) {
      header.writeBigUInt64BE((extendedL2 ? 16n : 0n) | (zstd ? 8n : 0n), 72);
      header.writeUInt32BE(4, 96);
      header.writeUInt32BE(112, 100);
      header.writeUInt8(zstd ? 1 : 0, 104);
    }
    const parts: Buffer[] = [header];
    for (const { type, data } of extensions) {
      const head = Buffer.alloc(8);
      head.writeUInt32BE(type, 0);
      head.writeUInt32BE(data.length, 4);
      parts.push(head, data, Buffer.alloc((8 - (data.length % 8)) % 8));
    }
    this.write(0, Buffer.concat(parts));
  }
}
