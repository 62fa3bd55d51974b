// Checksum files as the distributions write them, and everything else.
import { expect } from 'chai';
import * as fc from 'fast-check';
import { type ChecksumKind, findDigest, parseChecksums } from '../../../src/image-catalog/checksum-file.ts';
import { DomainError } from '../../../src/platform/errors.ts';
import { isLongRun, testSeed } from '../../support/sample.ts';

const sha256 = (digit: string): string => digit.repeat(64);
const sha512 = (digit: string): string => digit.repeat(128);

const signed = (body: string): string =>
  `-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n${body}-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEE\n=abcd\n-----END PGP SIGNATURE-----\n`;

/** Files of the real layouts, with other digests. */
const published: Record<string, { kind: ChecksumKind; text: string; name: string; hex: string }> = {
  'Ubuntu, SHA256SUMS': {
    kind: { format: 'sums', algorithm: 'sha256' },
    text: `${sha256('1')} *ubuntu-24.04-server-cloudimg-amd64-azure.vhd.tar.gz\n${sha256('a')} *ubuntu-24.04-server-cloudimg-amd64.img\n`,
    name: 'ubuntu-24.04-server-cloudimg-amd64.img',
    hex: sha256('a'),
  },
  'Debian, SHA512SUMS': {
    kind: { format: 'sums', algorithm: 'sha512' },
    text: `${sha512('1')}  debian-12-generic-amd64.qcow2\n${sha512('b')}  debian-12-genericcloud-amd64.qcow2\n`,
    name: 'debian-12-genericcloud-amd64.qcow2',
    hex: sha512('b'),
  },
  'Fedora, signed within the file': {
    kind: { format: 'bsd', algorithm: 'sha256' },
    text: signed(
      `# Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2: 583729152 bytes\nSHA256 (Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2) = ${sha256('c')}\n`,
    ),
    name: 'Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2',
    hex: sha256('c'),
  },
  'AlmaLinux, the file named latest': {
    kind: { format: 'sums', algorithm: 'sha256' },
    text: `${sha256('d')}  AlmaLinux-9-GenericCloud-9.7-20251118.x86_64.qcow2\n${sha256('d')}  AlmaLinux-9-GenericCloud-latest.x86_64.qcow2\n`,
    name: 'AlmaLinux-9-GenericCloud-latest.x86_64.qcow2',
    hex: sha256('d'),
  },
  'Rocky, one file of its own': {
    kind: { format: 'bsd', algorithm: 'sha256' },
    text: `# Rocky-9-GenericCloud-Base.latest.x86_64.qcow2: 645988352 bytes\nSHA256 (Rocky-9-GenericCloud-Base.latest.x86_64.qcow2) = ${sha256('E')}\n`,
    name: 'Rocky-9-GenericCloud-Base.latest.x86_64.qcow2',
    hex: sha256('e'),
  },
  'Alpine, the digest alone': {
    kind: { format: 'single', algorithm: 'sha512' },
    text: `${sha512('f')}\n`,
    name: 'generic_alpine-3.24.1-x86_64-bios-cloudinit-r0.qcow2',
    hex: sha512('f'),
  },
  'a digest with its name': {
    kind: { format: 'single', algorithm: 'sha256' },
    text: `${sha256('f')}  ./disk.qcow2\r\n`,
    name: 'disk.qcow2',
    hex: sha256('f'),
  },
  'sizes and digests of other kinds beside': {
    kind: { format: 'bsd', algorithm: 'sha256' },
    text: `MD5 (disk.img) = ${'0'.repeat(32)}\nSIZE (disk.img) = 4096\nSHA256 (disk.img) = ${sha256('7')}\n`,
    name: 'disk.img',
    hex: sha256('7'),
  },
};

describe('checksum files', () => {
  for (const [what, { kind, text, name, hex }] of Object.entries(published))
    it(`reads that of ${what}`, () => {
      expect(findDigest(parseChecksums(text, kind), name)).to.deep.equal({ name, hex });
    });

  const refusals: [what: string, kind: ChecksumKind, text: string, says: RegExp][] = [
    ['nothing', { format: 'sums', algorithm: 'sha256' }, '\n# nothing\n', /no sha256 digest/],
    ['a page', { format: 'sums', algorithm: 'sha256' }, '<!doctype html>\n', /line 1 is not of the form/],
    ['half a line', { format: 'sums', algorithm: 'sha256' }, `${sha256('a')} *a.img\n${'b'.repeat(40)}`, /line 2 is not/],
    ['digests of another kind', { format: 'sums', algorithm: 'sha256' }, `${sha512('a')}  a.img\n`, /line 1 is not/],
    ['the other format', { format: 'bsd', algorithm: 'sha256' }, `${sha256('a')}  a.img\n`, /line 1 is not/],
    [
      'a name twice with two digests',
      { format: 'sums', algorithm: 'sha256' },
      `${sha256('a')}  a\n${sha256('b')}  a\n`,
      /second/,
    ],
    ['two digests where one is', { format: 'single', algorithm: 'sha256' }, `${sha256('a')}\n${sha256('b')}\n`, /too many/],
    ['control characters', { format: 'sums', algorithm: 'sha256' }, `${sha256('a')}  a\u001b[2J\n`, /control/],
    ['a line without end', { format: 'sums', algorithm: 'sha256' }, `${sha256('a')}  ${'x'.repeat(5000)}`, /longer than/],
    ['a frame that breaks off', { format: 'bsd', algorithm: 'sha256' }, signed('').slice(0, -40), /breaks off/],
    ['a frame without a body', { format: 'bsd', algorithm: 'sha256' }, '-----BEGIN PGP SIGNED MESSAGE-----', /breaks off/],
    ['only other kinds', { format: 'bsd', algorithm: 'sha512' }, `SHA256 (a) = ${sha256('a')}\n`, /no sha512 digest/],
  ];
  for (const [what, kind, text, says] of refusals)
    it(`refuses ${what}`, () => {
      expect(() => parseChecksums(text, kind)).to.throw(DomainError, says);
    });

  it('takes nothing from outside the signed text', () => {
    const text = `${signed(`SHA256 (a.img) = ${sha256('a')}\n`)}SHA256 (b.img) = ${sha256('b')}\n`;
    expect([...parseChecksums(text, { format: 'bsd', algorithm: 'sha256' }).keys()]).to.deep.equal(['a.img']);
  });

  it('says so when the file is not named, or is another than the one that has the digest', () => {
    const sums = parseChecksums(`${sha256('a')}  a.img\n`, { format: 'sums', algorithm: 'sha256' });
    expect(() => findDigest(sums, 'b.img')).to.throw(DomainError, /does not name b\.img/);
    expect(() => findDigest(sums, 'b*.img')).to.throw(DomainError, /nothing like b\*\.img/);
    const single = parseChecksums(`${sha256('a')}  a.img\n`, { format: 'single', algorithm: 'sha256' });
    expect(() => findDigest(single, 'b.img')).to.throw(DomainError, /does not name b\.img/);
  });

  it('finds the newest of the files that are meant, numbers compared as numbers', () => {
    const names = ['9.9-20250101', '9.10-20250102', '9.10-20250101', 'ext4-9.11-20250101'].map((each) => `Alma-${each}.qcow2`);
    const others = ['../Alma-9.99.qcow2', 'Alma-9.99/../x.qcow2', 'Alma-9.qcow2.asc'];
    const text = [...names, ...others].map((name) => `${sha256('a')}  ${name}\n`).join('');
    expect(findDigest(parseChecksums(text, { format: 'sums', algorithm: 'sha256' }), 'Alma-9.*.qcow2').name).to.equal(
      'Alma-9.10-20250102.qcow2',
    );
  });

  it('reads back what the tools write, whatever the names are', () => {
    const hexes = fc.stringMatching(/^[0-9a-f]{64}$/);
    const fileName = fc.stringMatching(/^[-+~\w][-+.~\w() =]{0,60}[\w]$/);
    const entries = fc.uniqueArray(fc.tuple(fileName, hexes), { minLength: 1, maxLength: 30, selector: ([name]) => name });
    fc.assert(
      fc.property(entries, fc.constantFrom('  ', ' *'), (files, between) => {
        const asSums = files.map(([name, hex]) => `${hex}${between}${name}\n`).join('');
        const asBsd = files.map(([name, hex]) => `SHA256 (${name}) = ${hex}\n`).join('');
        const wanted = new Map(files);
        expect(parseChecksums(asSums, { format: 'sums', algorithm: 'sha256' })).to.deep.equal(wanted);
        expect(parseChecksums(signed(asBsd), { format: 'bsd', algorithm: 'sha256' })).to.deep.equal(wanted);
      }),
      { seed: testSeed, numRuns: isLongRun ? 1000 : 100 },
    );
  });

  it('reads a file of the greatest length in linear time, whatever its lines look like', function () {
    this.timeout(20_000);
    const lines: [line: string, kind: ChecksumKind][] = [
      [`SHA512 (${') = '.repeat(900)}) = ab`, { format: 'bsd', algorithm: 'sha256' }],
      [`MD5 (${')'.repeat(2000)}) = 0`, { format: 'bsd', algorithm: 'sha256' }],
      ['#', { format: 'sums', algorithm: 'sha256' }],
      ['', { format: 'single', algorithm: 'sha256' }],
      [`${sha256('a')}  ${' '.repeat(2000)}x`, { format: 'sums', algorithm: 'sha256' }],
      ['f'.repeat(4000), { format: 'single', algorithm: 'sha512' }],
    ];
    for (const [line, kind] of lines)
      expect(() => parseChecksums(`${line}\n`.repeat(2 ** 20 / (line.length + 1)), kind)).to.throw(DomainError);
  });
});
