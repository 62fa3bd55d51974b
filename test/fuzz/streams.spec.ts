// Fuzzing of what is beneath the decoders: the recognition of files, and the unpacking of stored units. Bytes or a refusal, nothing else.
import { expect } from 'chai';
import { writeFile } from 'node:fs/promises';
import { deflateRawSync, deflateSync, zstdCompressSync } from 'node:zlib';
import { headBytes, tailBytes } from '../../src/formats/file-edges.ts';
import { byCopy, createInflater } from '../../src/formats/inflater.ts';
import { recogniseFormat } from '../../src/formats/recognise.ts';
import { unpack } from '../../src/formats/unpack.ts';
import { DomainError } from '../../src/platform/errors.ts';
import { scratchPath } from '../support/images.ts';
import { isLongRun, randomFrom, testSeed } from '../support/sample.ts';
import { mutate } from '../support/mutations.ts';

const fuzzMs = Number(process.env['OBRAZ_TEST_FUZZ_MS'] ?? 0);
const rounds = isLongRun ? 8_000 : 500;

/** Runs `round` so often, or for so long; what it fails with is kept with its bytes. */
async function fuzz(round: (random: () => number) => { bytes: Uint8Array; check: () => void }): Promise<void> {
  const random = randomFrom(testSeed);
  const until = performance.now() + fuzzMs / 4;
  for (let index = 0; fuzzMs > 0 ? performance.now() < until : index < rounds; index += 1) {
    const { bytes, check } = round(random);
    try {
      check();
    } catch (error) {
      const path = `${scratchPath()}-find`;
      await writeFile(path, bytes);
      throw new Error(`round ${index} of seed ${testSeed} is kept as ${path}`, { cause: error });
    }
  }
}

/** The answer, or 'refused'. @throws what is neither. */
function outcomeOf<T>(work: () => T): T | 'refused' {
  try {
    return work();
  } catch (error) {
    if (error instanceof DomainError && error.code === 'INVALID_ARGUMENT') return 'refused';
    throw error;
  }
}

describe(`units and marks at random (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(fuzzMs + 300_000);

  const marks: [at: number, mark: string][] = [
    [0, 'QFI\xfb\0\0\0\x03'],
    [0, 'KDMV\x01\0\0\0'],
    [0, 'conectix'],
    [-512, 'conectix'],
    [-511, 'conectix'],
    [-512, 'koly\0\0\0\x04'],
    [0, 'vhdxfile'],
    [0x40, '\x7f\x10\xda\xbe'],
    [0, '\x1f\x8b\x08'],
    [0, '\xfd7zXZ\0'],
    [0, '\x28\xb5\x2f\xfd'],
    [0, 'PK\x03\x04'],
    [257, 'ustar\0'],
    [32_768, '\x01CD001\x01'],
    [510, '\x55\xaa'],
    [512, 'EFI PART'],
    [0, '<!DOCTYPE html>'],
    [0, '# Disk DescriptorFile\n'],
    [0, 'LUKS\xba\xbe'],
  ];

  it('recognises a file or refuses it, whatever marks it bears, and takes none with two for one', async () => {
    await fuzz((random) => {
      const below = (limit: number): number => Math.floor(random() * limit);
      const bytes = Buffer.alloc(1 + below(150_000), random() < 0.5 ? 0 : 1 + below(255));
      const chosen = [...new Set(Array.from({ length: below(4) }, () => below(marks.length)))];
      for (const index of chosen) {
        const [at, mark] = marks[index]!;
        Buffer.from(mark, 'latin1').copy(bytes, at < 0 ? Math.max(0, bytes.length + at) : Math.min(at, bytes.length - 1));
      }
      return {
        bytes,
        check() {
          const head = bytes.subarray(0, headBytes);
          const tail = bytes.subarray(Math.max(0, bytes.length - tailBytes));
          const format = outcomeOf(() => recogniseFormat(head, tail, bytes.length));
          expect(format).to.be.oneOf(['raw', 'qcow2', 'vmdk', 'vhd', 'refused']);
          // What is refused alone is refused in company, and so are two formats in one file.
          const [start, end] = [0, -512].map((place) => chosen.filter((index) => marks[index]![0] === place));
          if (bytes.length < 70_000 || chosen.length !== 2 || start!.length !== 1 || end!.length !== 1) return;
          const isVhd = start![0] === 2 && end![0] === 3;
          const isText = start![0]! > 15;
          if (!isVhd && !isText) expect(format).to.equal('refused');
        },
      };
    });
  });

  for (const codec of ['deflate-raw', 'zlib', 'zstd'] as const) {
    it(`unpacks damaged ${codec} within its bounds${codec === 'zstd' ? '' : ', in place as by copy'}`, async () => {
      const pack = { 'deflate-raw': deflateRawSync, zlib: deflateSync, zstd: zstdCompressSync }[codec];
      const units = [
        Buffer.alloc(65_536, 'words that repeat, '),
        Buffer.from(Uint32Array.from({ length: 16_384 }, (_, index) => Math.imul(index, 2_654_435_761) >>> (index % 9)).buffer),
        Buffer.alloc(65_536),
        Buffer.alloc(512, 'short '),
      ];
      const streams = units.map((unit) => ({ length: unit.length, packed: pack(unit) }));
      const inPlace = codec === 'zstd' ? undefined : createInflater(codec);
      const copying = codec === 'zstd' ? undefined : byCopy(codec);
      await fuzz((random) => {
        const { length, packed } = streams[Math.floor(random() * streams.length)]!;
        const padded = Buffer.concat([packed, Buffer.alloc(Math.floor(random() * 600), 0xcc)]);
        const bytes = mutate(padded, random, [
          [0, Math.min(padded.length, 64)],
          [Math.max(0, packed.length - 16), padded.length],
        ]);
        const guard = 64;
        const unitLength = random() < 0.8 ? length : Math.max(1, Math.floor(random() * 2 * length));
        return {
          bytes,
          check() {
            const area = Buffer.alloc(unitLength + guard, 0xee);
            const minLength = Math.floor(unitLength / 2);
            const outcome = outcomeOf(() => unpack(codec, bytes, area.subarray(0, unitLength), { minLength }));
            expect(outcome).to.be.oneOf([undefined, 'refused']);
            // Nothing is written past the unit.
            expect(area.subarray(unitLength).every((byte) => byte === 0xee)).to.equal(true);
            if (inPlace === undefined || copying === undefined) return;
            const [one, other] = [inPlace, copying].map((inflate) => {
              const target = Buffer.alloc(unitLength);
              try {
                return { filled: inflate(bytes, target), target };
              } catch {
                return undefined;
              }
            });
            expect(one?.filled).to.equal(other?.filled);
            // Behind its end a stream may leave anything: unpack() fills it with zeros.
            if (one === undefined || other === undefined) return;
            expect(one.target.subarray(0, one.filled).equals(other.target.subarray(0, other.filled))).to.equal(true);
          },
        };
      });
    });
  }
});
