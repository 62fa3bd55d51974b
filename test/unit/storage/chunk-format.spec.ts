import { createHash } from 'node:crypto';
import { expect } from 'chai';
import * as fc from 'fast-check';
import type { ChunkAddress } from '../../../src/storage/address.ts';
import { ChunkBuffer, encodeChunk } from '../../../src/storage/chunk-encoder.ts';
import { headerBytes, parseChunkHeader, writeChunkHeader } from '../../../src/storage/chunk-format.ts';
import { Damage } from '../../../src/storage/damage.ts';
import { sha256 } from '../../../src/storage/hash-algorithm.ts';
import { isPageAligned } from '../../../src/storage/page-aligned.ts';
import { blockBytes, blocksPerChunk, chunkBytes } from '../../../src/storage/sizes.ts';
import { type BlockKind, chunk } from './support/guest-data.ts';

const sha = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();

describe('chunk format', () => {
  const data = chunk([1, 0, 2, 1]);

  it('is what stores already hold: address and bytes never change', () => {
    const encoded = encodeChunk(data)!;
    expect(encoded.address).to.equal('0164d5abbc45a5ec0ad3ab2f4e17f5670c9722e0fbde2f6a72bebe8fe1e0b420');
    expect(sha(...encoded.parts).toString('hex')).to.equal('4fb3ec7db2bc9861d973551357596cdf66394b12530d02fbd2adb90764a46961');
  });

  it('has the address that the documentation says', () => {
    const leaves = Array.from({ length: 64 }, (_, index) => sha(data.subarray(index * 65536, (index + 1) * 65536)));
    const address = sha(Buffer.from('obraz chunk v1\0'), ...leaves).toString('hex');
    expect(encodeChunk(data)!.address).to.equal(address);
  });

  it('lays the header out as documented', () => {
    const object = Buffer.concat(encodeChunk(data)!.parts);
    expect(object.toString('latin1', 0, 8)).to.equal('obrzchnk');
    expect([object.readUInt16LE(8), object.readUInt16LE(10), object[12], object[13], object[14], object[15]]).to.deep.equal([
      1, 0, 1, 16, 22, 0,
    ]);
    expect(object.readUInt32LE(16)).to.equal(3 * blockBytes);
    expect(object).to.have.length(4096 + 3 * blockBytes);
    for (let index = 0; index < blocksPerChunk; index += 1) {
      const entry = object.subarray(64 + 40 * index, 104 + 40 * index);
      const isZero = index === 1 || index > 3;
      expect(entry.subarray(0, 32).equals(sha(data.subarray(index * blockBytes, (index + 1) * blockBytes)))).to.equal(true);
      expect([entry.readUInt32LE(32), entry[36], entry[37], entry[38], entry[39]]).to.deep.equal([
        isZero ? 0 : blockBytes,
        isZero ? 0 : 1,
        0,
        0,
        0,
      ]);
    }
    expect(object.subarray(4064, 4096).equals(sha(object.subarray(0, 4064)))).to.equal(true);
    expect(
      object.subarray(4096).equals(Buffer.concat([data.subarray(0, blockBytes), data.subarray(2 * blockBytes, 4 * blockBytes)])),
    ).to.equal(true);
  });

  it('does not store zeros', () => {
    expect(encodeChunk(new Uint8Array(chunkBytes))).to.equal(undefined);
    expect(encodeChunk(new ChunkBuffer())).to.equal(undefined);
    const one = new Uint8Array(chunkBytes);
    one[chunkBytes - 1] = 1;
    expect(Buffer.concat(encodeChunk(one)!.parts)).to.have.length(headerBytes + blockBytes);
  });

  it('takes whole chunks only', () => {
    expect(() => encodeChunk(new Uint8Array(chunkBytes - 1))).to.throw(RangeError);
    expect(() => encodeChunk(new Uint8Array(chunkBytes + 1))).to.throw(RangeError);
  });

  it('has an address that does not depend on packing, nor on where the bytes lie', () => {
    const kinds = fc.array(fc.constantFrom<BlockKind>(0, 1, 2), { minLength: 1, maxLength: 64 });
    const buffer = new ChunkBuffer();
    fc.assert(
      fc.property(kinds, fc.nat(3), (blocks, seed) => {
        const bytes = chunk(blocks, seed);
        buffer.data.set(bytes);
        const plain = encodeChunk(bytes);
        expect(encodeChunk(bytes, { packing: 'zstd' })?.address).to.equal(plain?.address);
        const aligned = encodeChunk(buffer);
        expect(aligned?.address).to.equal(plain?.address);
        if (plain === undefined || aligned === undefined) return;
        expect(Buffer.concat(aligned.parts).equals(Buffer.concat(plain.parts))).to.equal(true);
        expect(aligned.parts.every(isPageAligned)).to.equal(true);
      }),
      { numRuns: 12 },
    );
  });

  it('hands a chunk without zeros to the disk in one piece', () => {
    const buffer = new ChunkBuffer();
    buffer.data.fill(1);
    expect(encodeChunk(buffer)!.parts).to.have.length(1);
  });

  it('packs blocks that shrink by an eighth, and leaves the others', () => {
    const object = Buffer.concat(encodeChunk(data, { packing: 'zstd' })!.parts);
    const header = parseChunkHeader(object.subarray(0, headerBytes), encodeChunk(data)!.address, sha256);
    expect([...header.encodings.subarray(0, 5)]).to.deep.equal([1, 0, 2, 1, 0]);
    expect(object.length).to.be.lessThan(headerBytes + 2 * blockBytes + 1000);
  });

  describe('header', () => {
    const { address, parts } = encodeChunk(data, { packing: 'zstd' })!;
    const header = Buffer.from(parts[0]!);

    it('is refused with any of its bits flipped', () => {
      for (let bit = 0; bit < headerBytes * 8; bit += 1) {
        header[bit >> 3]! ^= 1 << (bit & 7);
        expect(() => parseChunkHeader(header, address, sha256), `bit ${bit}`).to.throw(Damage);
        header[bit >> 3]! ^= 1 << (bit & 7);
      }
      parseChunkHeader(header, address, sha256);
    });

    it('is refused when it is of another chunk, or too short', () => {
      const other = encodeChunk(chunk([1], 7))!;
      expect(() => parseChunkHeader(header, other.address, sha256)).to.throw(Damage, 'another chunk');
      expect(() => parseChunkHeader(header.subarray(0, 4095), address, sha256)).to.throw(Damage);
      expect(() => parseChunkHeader(new Uint8Array(0), address, sha256)).to.throw(Damage);
      expect(() => parseChunkHeader(new Uint8Array(4096), address, sha256)).to.throw(Damage);
    });

    it('is refused when its table contradicts itself, whatever its hash says', () => {
      const faults: [offset: number, bytes: number[]][] = [
        [16, [1, 0, 0, 0]],
        [64 + 32, [0xff, 0xff, 0, 0]],
        [64 + 32, [0xff, 0xff, 0xff, 0xff]],
        [64 + 36, [0]],
        [64 + 36, [2]],
        [64 + 36, [3]],
        [104 + 32, [1, 0, 0, 0]],
        [104 + 36, [1]],
      ];
      for (const [offset, bytes] of faults) {
        const forged = Buffer.from(header);
        forged.set(bytes, offset);
        forged.set(sha256.digest(forged.subarray(0, 4064)), 4064);
        expect(() => parseChunkHeader(forged, address, sha256), `${bytes.join()} at ${offset}`).to.throw(Damage);
      }
    });

    it('of a later version is not taken for damage', () => {
      for (const offset of [8, 10, 12, 13, 14]) {
        const newer = Buffer.from(header);
        newer[offset]! += 1;
        newer.set(sha256.digest(newer.subarray(0, 4064)), 4064);
        const parse = () => parseChunkHeader(newer, address, sha256);
        expect(parse).to.throw('does not know').and.not.instanceOf(Damage);
      }
    });

    it('is cleared before it is written', () => {
      const dirty = new Uint8Array(headerBytes).fill(0xff);
      const blocks = Array.from({ length: 64 }, () => ({ leaf: new Uint8Array(32), storedBytes: 0, encoding: 0 }));
      writeChunkHeader(dirty, sha256, blocks);
      expect(dirty.subarray(2624, 4064).every((byte) => byte === 0)).to.equal(true);
      expect(() => parseChunkHeader(dirty, '0'.repeat(64) as ChunkAddress, sha256)).to.throw(Damage);
    });
  });
});
