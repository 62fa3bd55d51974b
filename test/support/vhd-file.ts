// A VHD in memory, with right checksums whatever is changed: other creators than qemu, odd geometries, wrong fields.

export interface VhdFileOptions {
  kind?: number;
  creator?: string;
  currentSize?: bigint;
  geometry?: [cylinders: number, heads: number, sectors: number];
  blockBytes?: number;
  /** Blocks of data by index; others are not stored. */
  blocks?: Map<number, Buffer>;
  entries?: number;
  /** Changes before checksums are made. */
  changeFooter?: (footer: Buffer) => void;
  changeHeader?: (header: Buffer) => void;
  changeTable?: (table: Buffer) => void;
}

export function checksum(bytes: Buffer, at: number): void {
  bytes.writeUInt32BE(0, at);
  bytes.writeUInt32BE(~bytes.reduce((sum, byte) => sum + byte, 0) >>> 0, at);
}

export function vhdFooter(options: VhdFileOptions = {}): Buffer {
  const { kind = 2, creator = 'win ', currentSize = 2n ** 22n, geometry = [120, 4, 17] } = options;
  const footer = Buffer.alloc(512);
  footer.write('conectix', 'latin1');
  footer.writeUInt32BE(2, 8);
  footer.writeUInt32BE(0x1_0000, 12);
  footer.writeBigUInt64BE(kind === 2 ? 0xffff_ffff_ffff_ffffn : 512n, 16);
  footer.write(creator, 28, 'latin1');
  footer.writeBigUInt64BE(currentSize, 40);
  footer.writeBigUInt64BE(currentSize, 48);
  footer.writeUInt16BE(geometry[0], 56);
  footer.writeUInt8(geometry[1], 58);
  footer.writeUInt8(geometry[2], 59);
  footer.writeUInt32BE(kind, 60);
  options.changeFooter?.(footer);
  checksum(footer, 64);
  return footer;
}

export const fixedVhd = (data: Buffer, options: VhdFileOptions = {}): Buffer =>
  Buffer.concat([data, vhdFooter({ currentSize: BigInt(data.length), ...options })]);

export function dynamicVhd(options: VhdFileOptions = {}): Buffer {
  const { currentSize = 2n ** 22n, blockBytes = 2 ** 21, blocks = new Map() } = options;
  const entries = options.entries ?? Math.ceil(Number(currentSize) / blockBytes);
  const footer = vhdFooter({ ...options, kind: options.kind ?? 3, currentSize });
  const header = Buffer.alloc(1024);
  header.write('cxsparse', 'latin1');
  header.writeBigUInt64BE(0xffff_ffff_ffff_ffffn, 8);
  header.writeBigUInt64BE(1536n, 16);
  header.writeUInt32BE(0x1_0000, 24);
  header.writeUInt32BE(entries, 28);
  header.writeUInt32BE(blockBytes, 32);
  options.changeHeader?.(header);
  checksum(header, 36);
  const table = Buffer.alloc(Math.ceil((entries * 4) / 512) * 512, 0xff);
  const bitmap = Buffer.alloc(Math.ceil(blockBytes / 4096 / 512) * 512, 0xff);
  const parts: Buffer[] = [];
  let at = 1536 + table.length;
  for (const [index, data] of blocks) {
    table.writeUInt32BE(at / 512, index * 4);
    const whole = Buffer.concat([data, Buffer.alloc(blockBytes - data.length)]);
    parts.push(bitmap, whole);
    at += bitmap.length + whole.length;
  }
  options.changeTable?.(table);
  return Buffer.concat([footer, header, table, ...parts, footer]);
}
