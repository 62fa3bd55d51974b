// Finds where a zstd frame ends and what it will need, before anything is unpacked: the decoder of node refuses bytes after a frame
// (Qcow2 pads clusters to sectors), and allocates whatever window a header asks for. Source: RFC 8878 section 3.1.

const frameMagic = 0xfd2fb528;
const skippableMagic = 0x184d2a50;
const maxBlockBytes = 128 * 1024;

export interface ZstdFrame {
  kind: 'data' | 'skippable';
  /** Bytes of the frame, its checksum included. */
  length: number;
  /** Memory that the decoder keeps for back-references, bytes. */
  windowBytes: number;
  /** Bytes that it unpacks to, where the header says so. */
  contentBytes: number | undefined;
}

/** Answers the frame that starts at `at`, or why there is none. */
export function readZstdFrame(bytes: Uint8Array, at: number): ZstdFrame | string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const has = (position: number, length: number): boolean => position + length <= bytes.length;
  if (!has(at, 5)) return 'it ends before a frame';
  const magic = view.getUint32(at, true);
  if ((magic & 0xffff_fff0) >>> 0 === skippableMagic) {
    if (!has(at, 8)) return 'a skippable frame is cut short';
    const length = 8 + view.getUint32(at + 4, true);
    return has(at, length) ? { kind: 'skippable', length, windowBytes: 0, contentBytes: 0 } : 'a skippable frame is cut short';
  }
  if (magic !== frameMagic) return 'there is no zstd frame';

  // Section 3.1.1.1: descriptor, window, dictionary id, content size.
  const descriptor = bytes[at + 4]!;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const hasChecksum = (descriptor & 0x04) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3]!;
  const sizeFlag = descriptor >> 6;
  const sizeBytes = sizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 2 ** sizeFlag;
  if ((descriptor & 0x08) !== 0) return 'a reserved bit of the frame header is set';
  if (dictionaryBytes !== 0) return 'the frame needs a dictionary';
  let position = at + 5;
  const headerEnd = position + (isSingleSegment ? 0 : 1) + sizeBytes;
  if (headerEnd > bytes.length) return 'the frame header is cut short';
  let windowBytes = 0;
  if (!isSingleSegment) {
    const exponent = bytes[position]! >> 3;
    const mantissa = bytes[position]! & 7;
    windowBytes = 2 ** (10 + exponent) * (1 + mantissa / 8);
    position += 1;
  }
  let contentBytes: number | undefined;
  if (sizeBytes === 1) contentBytes = bytes[position]!;
  else if (sizeBytes === 2) contentBytes = view.getUint16(position, true) + 256;
  else if (sizeBytes === 4) contentBytes = view.getUint32(position, true);
  else if (sizeBytes === 8) contentBytes = Number(view.getBigUint64(position, true));
  if (isSingleSegment) windowBytes = contentBytes!;

  // Section 3.1.1.2: blocks until the last one.
  position = headerEnd;
  while (true) {
    if (!has(position, 3)) return 'the frame is cut short';
    const block = bytes[position]! | (bytes[position + 1]! << 8) | (bytes[position + 2]! << 16);
    const type = (block >> 1) & 3;
    const size = block >> 3;
    if (type === 3) return 'a block has the reserved type';
    if (type !== 1 && size > maxBlockBytes) return 'a block is larger than 128 KiB';
    // A block of one repeated byte stores that byte once.
    position += 3 + (type === 1 ? 1 : size);
    if ((block & 1) !== 0) break;
  }
  const length = position + (hasChecksum ? 4 : 0) - at;
  return has(at, length) ? { kind: 'data', length, windowBytes, contentBytes } : 'the frame is cut short';
}
