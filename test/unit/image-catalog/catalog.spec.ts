// The catalog of well-known images: the shipped file, and what an operator's file does to it.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { readCatalog, requireEntry } from '../../../src/image-catalog/catalog.ts';
import { StartError } from '../../../src/platform/start-error.ts';
import { failure } from '../sources/fixture.ts';

describe('image catalog', () => {
  let folder: string;
  before(async () => (folder = await mkdtemp(path.join(tmpdir(), 'obraz-catalog-'))));
  after(() => rm(folder, { recursive: true }));

  const own = async (content: unknown): Promise<string> => {
    const file = path.join(folder, 'own.json');
    await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content));
    return file;
  };

  const entry = {
    family: 'our-linux',
    name: 'Our Linux',
    os: 'linux',
    minDiskGiB: 4,
    image: 'http://mirror.example/our/linux-*.qcow2',
    checksums: { url: 'http://mirror.example/our/SHA256SUMS', format: 'sums', algorithm: 'sha256' },
  };

  it('ships Ubuntu, Debian, Fedora, AlmaLinux, Rocky and Alpine, over https, each with its checksum file', async () => {
    const entries = await readCatalog();
    const families = entries.map(({ family }) => family);
    expect(families).to.include.members(['ubuntu-2004-lts', 'ubuntu-2204-lts', 'ubuntu-2404-lts']);
    for (const begin of ['debian-12', 'fedora-', 'almalinux-9', 'rocky-9', 'alpine-'])
      expect(
        families.some((family) => family.startsWith(begin)),
        begin,
      ).to.equal(true);
    for (const { image, checksums } of entries) {
      expect(image).to.match(/^https:/);
      expect(new URL(checksums.url).host).to.equal(new URL(image).host);
    }
  });

  it('adds the entries of an own file, and replaces those of the same family', async () => {
    const shipped = await readCatalog();
    const entries = await readCatalog(await own({ images: [entry, { ...entry, family: 'debian-12', name: 'Ours' }] }));
    expect(entries.map(({ family }) => family)).to.deep.equal([...shipped.map(({ family }) => family), 'our-linux']);
    expect(requireEntry(entries, 'debian-12').name).to.equal('Ours');
    expect(requireEntry(entries, 'our-linux')).to.include({ tried: false, description: '' });
  });

  it('puts mirrors in the place of the sites, the longest begin first', async () => {
    const entries = await readCatalog(
      await own({
        mirrors: {
          'https://cloud.debian.org/': 'http://mirror.example/debian/',
          'https://cloud.debian.org/images/cloud/trixie/': 'http://fast.example/',
        },
      }),
    );
    expect(requireEntry(entries, 'debian-12').image).to.equal(
      'http://mirror.example/debian/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2',
    );
    expect(requireEntry(entries, 'debian-13').checksums.url).to.equal('http://fast.example/latest/SHA512SUMS');
    expect(requireEntry(entries, 'rocky-9').image).to.match(/^https:\/\/dl\.rockylinux\.org/);
  });

  it('says which family there is not', async () => {
    const entries = await readCatalog();
    expect(() => requireEntry(entries, 'plan-9')).to.throw(StartError, /no family "plan-9".*obraz catalog list/);
  });

  const broken: [what: string, content: unknown, says: RegExp][] = [
    ['no JSON', '{', /Cannot read the image catalog .*own\.json/],
    ['an unknown field', { images: [{ ...entry, sha256: 'x' }] }, /images\.0: .*sha256/],
    ['a family twice', { images: [entry, entry] }, /a family twice/],
    ['a family that leaves no room for the day', { images: [{ ...entry, family: `a${'b'.repeat(51)}` }] }, /images\.0\.family/],
    ['another scheme', { images: [{ ...entry, image: 'file:///etc/passwd' }] }, /images\.0\.image: scheme "file"/],
    ['credentials', { images: [{ ...entry, image: 'https://me:secret@a.example/x' }] }, /images\.0\.image: must not hold a user/],
    ['a digest', { images: [{ ...entry, image: `${entry.image}#sha256=00` }] }, /images\.0\.image/],
    ['a folder', { images: [{ ...entry, image: 'https://a.example/images/' }] }, /images\.0\.image: must end in the name/],
    ['a star in a folder', { images: [{ ...entry, image: 'https://a.example/*/x.img' }] }, /images\.0\.image: may hold one \*/],
    ['two stars', { images: [{ ...entry, image: 'https://a.example/a*b*c' }] }, /images\.0\.image/],
    [
      'a star where a digest stands alone',
      { images: [{ ...entry, checksums: { ...entry.checksums, format: 'single' } }] },
      /images\.0\.image: holds a \*/,
    ],
    ['a mirror without a slash', { mirrors: { 'https://a.example': 'https://b.example/' } }, /mirrors/],
    ['an image of no size', { images: [{ ...entry, minDiskGiB: 0 }] }, /images\.0\.minDiskGiB/],
    ['too much', ' '.repeat(1024 * 1024 + 1), /at most 1048576/],
  ];
  for (const [what, content, says] of broken)
    it(`refuses a file with ${what}, and names the place`, async () => {
      const error = await failure(readCatalog(await own(content)));
      expect(error).to.be.instanceOf(StartError);
      expect(error.message).to.match(says);
    });

  it('refuses a file that is not there', async () => {
    expect((await failure(readCatalog(path.join(folder, 'nothing.json')))).message).to.match(/nothing\.json: ENOENT/);
  });
});
