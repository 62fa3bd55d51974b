// Fuzzing of what reads the checksum files of distributions: digests of the right length, each in the file as it came, or a refusal.
import { expect } from 'chai';
import { type ChecksumKind, findDigest, parseChecksums } from '../../src/image-catalog/checksum-file.ts';
import { DomainError } from '../../src/platform/errors.ts';
import { mutate } from '../support/mutations.ts';
import { isLongRun, randomFrom, testSeed } from '../support/sample.ts';

const fuzzMs = Number(process.env['OBRAZ_TEST_FUZZ_MS'] ?? 0);
const rounds = isLongRun ? 50_000 : 3000;

const hexes = { sha256: '1a'.repeat(32), sha512: '2b'.repeat(64) } as const;
const lengths = { sha256: 64, sha512: 128 } as const;
const bsd = `# disk-9.1.qcow2: 4096 bytes\nSHA256 (disk-9.1.qcow2) = ${hexes.sha256}\nSHA512 (disk-9.2.qcow2) = ${hexes.sha512}\n`;

const originals = [
  `${hexes.sha256} *disk-9.1.qcow2\n${hexes.sha256} *disk-9.10.qcow2\n`,
  `${hexes.sha512}  disk-9.1.qcow2\r\n${hexes.sha512}  ./disk-9.2.qcow2\r\n`,
  bsd,
  `-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n- -- \n${bsd}-----BEGIN PGP SIGNATURE-----\n\nabcd\n-----END PGP SIGNATURE-----\n`,
  `${hexes.sha512}\n`,
  `${hexes.sha256}  disk-9.1.qcow2\n`,
].map((text) => Buffer.from(text));

const kinds: ChecksumKind[] = (['sums', 'bsd', 'single'] as const).flatMap((format) =>
  (['sha256', 'sha512'] as const).map((algorithm) => ({ format, algorithm })),
);

describe(`checksum files at random (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(fuzzMs + 60_000);

  it('are refused, or give digests and names that stand in them', () => {
    const random = randomFrom(testSeed);
    const oneOf = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)]!;
    const until = performance.now() + fuzzMs / 4;
    for (let round = 0; fuzzMs > 0 ? performance.now() < until : round < rounds; round += 1) {
      const text = mutate(oneOf(originals), random, []).toString('utf8');
      const kind = oneOf(kinds);
      try {
        const digests = parseChecksums(text, kind);
        for (const [name, hex] of digests) {
          expect(hex)
            .to.match(/^[0-9a-f]+$/)
            .and.to.have.length(lengths[kind.algorithm]);
          expect(text.toLowerCase()).to.include(hex);
          expect(text).to.include(name);
        }
        expect(findDigest(digests, 'disk-*.qcow2').name).to.match(/^disk-[-+.~\w]*\.qcow2$/);
      } catch (error) {
        if (!(error instanceof DomainError)) {
          throw new Error(`round ${round} of seed ${testSeed}: ${JSON.stringify({ kind, text })}`, { cause: error });
        }
      }
    }
  });
});
