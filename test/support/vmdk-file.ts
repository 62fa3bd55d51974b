// A VMDK in memory as VMware and VirtualBox stream it, which qemu-img never does: the grain directory at the end, markers before every
// table, a footer. Also for wrong fields.
import { deflateSync } from 'node:zlib';

const sector = 512;

export interface VmdkFileOptions {
  sizeBytes?: number;
  version?: number;
  grainSectors?: number;
  /** Default: a stream-optimized disk with its directory at the end. */
  compressed?: boolean;
  zeroGrains?: boolean;
  descriptor?: string;
  /** Guest grains: their bytes, or 'zero' for an entry of 1. Others are not stored. */
  grains?: Map<number, Buffer | 'zero'>;
  /** In the order of the file; default ascending. */
  order?: number[];
}

export const vmdkDescriptor = (sectors: number, changes: Record<string, string> = {}): string => {
  const lines: Record<string, string> = {
    head: '# Disk DescriptorFile',
    version: 'version=1',
    cid: 'CID=7e5b80a7',
    parent: 'parentCID=ffffffff',
    type: 'createType="streamOptimized"',
    extent: `RDONLY ${sectors} SPARSE "call-me-stream.vmdk"`,
    database: 'ddb.adapterType = "lsilogic"',
    ...changes,
  };
  return Object.values(lines).join('\n');
};

/** A marker of metadata: how many sectors follow and what they are. */
function marker(sectors: number, type: number): Buffer {
  const bytes = Buffer.alloc(sector);
  bytes.writeBigUInt64LE(BigInt(sectors), 0);
  bytes.writeUInt32LE(type, 12);
  return bytes;
}

/** Pads to whole sectors. */
const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((sector - (bytes.length % sector)) % sector)]);

export function vmdkFile(options: VmdkFileOptions = {}): Buffer {
  const {
    sizeBytes = 4 * 2 ** 20,
    version = 3,
    grainSectors = 128,
    compressed = true,
    zeroGrains = false,
    grains = new Map(),
  } = options;
  const capacity = Math.ceil(sizeBytes / sector / grainSectors) * grainSectors;
  const tables = Math.ceil(capacity / grainSectors / 512);
  const header = Buffer.alloc(sector);
  header.write('KDMV', 'latin1');
  header.writeUInt32LE(version, 4);
  header.writeUInt32LE(1 | (zeroGrains ? 4 : 0) | (compressed ? 0x3_0000 : 0), 8);
  header.writeBigUInt64LE(BigInt(capacity), 12);
  header.writeBigUInt64LE(BigInt(grainSectors), 20);
  header.writeBigUInt64LE(1n, 28);
  header.writeBigUInt64LE(20n, 36);
  header.writeUInt32LE(512, 44);
  header.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 56);
  header.writeBigUInt64LE(128n, 64);
  header.write('\n \r\n', 73, 'latin1');
  header.writeUInt16LE(compressed ? 1 : 0, 77);

  const parts: Buffer[] = [header, Buffer.alloc(127 * sector)];
  parts[1]!.write(options.descriptor ?? vmdkDescriptor(sizeBytes / sector), 'latin1');
  let at = 128;
  const put = (bytes: Buffer): number => {
    const start = at;
    const whole = padded(bytes);
    parts.push(whole);
    at += whole.length / sector;
    return start;
  };

  const entries = new Map<number, number>();
  for (const grain of options.order ?? [...grains.keys()].sort((a, b) => a - b)) {
    const bytes = grains.get(grain)!;
    if (bytes === 'zero') {
      entries.set(grain, 1);
      continue;
    }
    if (!compressed) {
      entries.set(grain, put(bytes));
      continue;
    }
    const stream = deflateSync(bytes);
    const head = Buffer.alloc(12);
    head.writeBigUInt64LE(BigInt(grain * grainSectors), 0);
    head.writeUInt32LE(stream.length, 8);
    entries.set(grain, put(Buffer.concat([head, stream])));
  }
  const directory = Buffer.alloc(tables * 4);
  for (let table = 0; table < tables; table += 1) {
    const used = [...entries].filter(([grain]) => Math.floor(grain / 512) === table);
    if (used.length === 0) continue;
    put(marker(4, 1));
    const bytes = Buffer.alloc(2048);
    for (const [grain, entry] of used) bytes.writeUInt32LE(entry, (grain % 512) * 4);
    directory.writeUInt32LE(put(bytes), table * 4);
  }
  put(marker(Math.ceil(directory.length / sector), 2));
  const directoryAt = put(directory);
  const footer = Buffer.from(header);
  footer.writeBigUInt64LE(BigInt(directoryAt), 56);
  put(marker(1, 3));
  put(footer);
  put(marker(0, 0));
  return Buffer.concat(parts);
}
