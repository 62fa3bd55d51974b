// Files that were almost right: seeded changes of the kind that break parsers. The same seed gives the same file.
import { checksum } from './vhd-file.ts';

/** Where changes mean most, besides anywhere: [start, end) of the file. */
export type Hot = readonly [start: number, end: number];

const interesting = [
  0n,
  1n,
  2n,
  3n,
  7n,
  8n,
  31n,
  0x7fn,
  0x80n,
  0xffn,
  0x200n,
  0x7fffn,
  0xffffn,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  2n ** 32n,
  2n ** 53n,
  2n ** 62n,
  2n ** 63n,
  2n ** 64n - 1n,
];

export function mutate(original: Buffer, random: () => number, hot: readonly Hot[]): Buffer {
  let bytes = Buffer.from(original);
  const below = (limit: number): number => Math.floor(random() * limit);
  const place = (): number => {
    if (random() < 0.15 || hot.length === 0) return below(bytes.length);
    const [start, end] = hot[below(hot.length)]!;
    return Math.min(bytes.length - 1, start + below(end - start));
  };
  const changes = 1 + below(3);
  for (let change = 0; change < changes && bytes.length > 16; change += 1) {
    const at = place();
    const aligned = Math.min(bytes.length - 8, at - (at % 4));
    const dice = random();
    if (dice < 0.25) bytes[at]! ^= 1 << below(8);
    else if (dice < 0.35) bytes[at] = below(256);
    else if (dice < 0.6) {
      const value = interesting[below(interesting.length)]!;
      const width = random() < 0.5 ? 4 : 8;
      const field = Buffer.alloc(8);
      if (random() < 0.5) field.writeBigUInt64BE(width === 8 ? value : (value & 0xffff_ffffn) << 32n);
      else field.writeBigUInt64LE(value);
      field.copy(bytes, aligned, 0, width);
    } else if (dice < 0.7) {
      // A number that is nearly right.
      const delta = below(5) - 2;
      bytes.writeUInt32BE((bytes.readUInt32BE(aligned) + delta * (random() < 0.5 ? 1 : 512)) >>> 0, aligned);
    } else if (dice < 0.85) {
      // An entry of a table that is another entry, or another table.
      const from = place();
      bytes.copyWithin(aligned, from - (from % 4), from - (from % 4) + 4 * (1 + below(16)));
    } else if (dice < 0.92) bytes.fill(random() < 0.5 ? 0 : 0xff, at, Math.min(bytes.length, at + below(600)));
    else bytes = bytes.subarray(0, random() < 0.5 ? Math.max(1, at) : Math.max(1, bytes.length - below(2048)));
  }
  return Buffer.from(bytes);
}

/** Makes the checksums of a VHD right again, so that changes reach what lies behind them. */
export function fixVhdChecksums(bytes: Buffer): void {
  for (const at of [0, bytes.length - 512])
    if (at >= 0 && bytes.length >= at + 512 && bytes.subarray(at, at + 8).toString('latin1') === 'conectix')
      checksum(bytes.subarray(at, at + 512), 64);
  if (bytes.length >= 1536 && bytes.subarray(512, 520).toString('latin1') === 'cxsparse') checksum(bytes.subarray(512, 1536), 36);
}
