import { execFile, spawnSync } from 'node:child_process';
import { chmod, mkdir, readdir, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { TransientError } from '../../../../src/platform/errors.ts';
import type { BlobStore } from '../../../../src/storage/blob-store.ts';
import { openLocalBlobStore } from '../../../../src/storage/drivers/local.ts';
import { tempName } from '../../../../src/storage/drivers/local/temp-files.ts';
import { allocatePageAligned } from '../../../../src/storage/page-aligned.ts';
import { collect, errorOf, text } from '../../../contract/blob-store.contract.ts';
import { type Folder, temporaryFolder } from '../support/places.ts';

const run = promisify(execFile);

describe('local blob store', () => {
  let folder: Folder;
  let directory: string;
  let store: BlobStore;

  beforeEach(async () => {
    folder = await temporaryFolder();
    directory = path.join(folder.path, 'store');
    store = await openLocalBlobStore({ directory });
  });
  afterEach(async () => {
    await store[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  const temps = () => readdir(path.join(directory, '+tmp'));

  it('stores an object as a file under its key, and nothing else', async () => {
    await store.put('chunks/ab/abcd', [text('bytes')]);
    expect((await readdir(directory, { recursive: true })).sort()).to.deep.equal([
      '+tmp',
      'chunks',
      'chunks/ab',
      'chunks/ab/abcd',
    ]);
    expect((await stat(path.join(directory, 'chunks/ab/abcd'))).nlink).to.equal(1);
  });

  it('keeps what it holds to its own user', async () => {
    await store.put('chunks/ab/abcd', [text('bytes')]);
    for (const [name, mode] of [
      ['', 0o700],
      ['chunks/ab', 0o700],
      ['chunks/ab/abcd', 0o600],
    ] as const)
      expect((await stat(path.join(directory, name))).mode & 0o777, name).to.equal(mode);
  });

  it('syncs the bytes before the name and the name before it answers', async () => {
    const calls = await tracedCalls(
      directory,
      `
      await store.put('chunks/ab/small', [Buffer.from('x')]); log('put');
      await store.put('chunks/ab/small', [Buffer.from('x')]); log('again');
      await store.put('chunks/ab/small', [Buffer.from('y')], { replace: true }); log('replaced');
      await store.put('chunks/ab/big', [allocatePageAligned(1 << 20)]); log('big');
      await store.delete('chunks/ab/big'); log('deleted');`,
    );
    expect(calls).to.deep.equal([
      'fdatasync +tmp/?',
      'fsync .',
      'fsync chunks',
      'link chunks/ab/small',
      'unlink +tmp/?',
      'fsync chunks/ab',
      'put',
      'fsync chunks/ab',
      'again',
      'fdatasync +tmp/?',
      'rename chunks/ab/small',
      'fsync chunks/ab',
      'replaced',
      'fdatasync +tmp/?',
      'link chunks/ab/big',
      'unlink +tmp/?',
      'fsync chunks/ab',
      'big',
      'unlink chunks/ab/big',
      'fsync chunks/ab',
      'deleted',
    ]);
  });

  it('makes the folders above a store durable when it creates them', async () => {
    const deep = path.join(folder.path, 'a', 'b', 'c');
    const calls = await tracedCalls(deep, '');
    expect(calls).to.deep.equal(['fsync ../../..', 'fsync ../..', 'fsync ..', 'fsync .']);
  });

  it('says so when something is in the way of its folder', async () => {
    const file = path.join(folder.path, 'file');
    await writeFile(file, '');
    const link = path.join(folder.path, 'link');
    await symlink(path.join(folder.path, 'nowhere'), link);
    for (const blocked of [file, path.join(file, 'store'), link, path.join(link, 'a', 'store')])
      expect(await errorOf(openLocalBlobStore({ directory: blocked })), blocked).to.be.instanceOf(Error);
    expect(await readdir(folder.path)).to.have.members(['file', 'link', 'store']);
  });

  it('is not made when it is opened again', async () => {
    const gone = path.join(folder.path, 'gone');
    const error = await errorOf(openLocalBlobStore({ directory: gone, create: false }));
    expect(error).to.be.instanceOf(TransientError).with.property('message', 'the folder of the blob store is away');
    await mkdir(gone);
    expect(await errorOf(openLocalBlobStore({ directory: gone, create: false }))).to.be.instanceOf(TransientError);
    expect(await readdir(gone)).to.deep.equal([]);
    // As a backup gives it back that leaves out empty folders.
    await writeFile(path.join(gone, 'format.json'), '');
    await using restored = await openLocalBlobStore({ directory: gone, create: false });
    await restored.put('chunks/ab/abcd', [text('bytes')]);
    await using again = await openLocalBlobStore({ directory, create: false });
    await again.put('chunks/ab/abcd', [text('bytes')]);
  });

  it('does not rely on another process to sync what that one has just put', async () => {
    await store.put('chunks/ab/abcd', [text('bytes')]);
    const calls = await tracedCalls(directory, `await store.put('chunks/ab/abcd', [Buffer.from('bytes')]); log('put');`);
    expect(calls).to.deep.equal(['fsync .', 'fsync chunks', 'fsync chunks/ab', 'put']);
  });

  it('makes the folders of an old store durable by one sync, since whoever made them may have died before his own', async () => {
    const names = Array.from({ length: 40 }, (_, index) => `chunks/${index + 10}`);
    await Promise.all(names.map((name) => store.put(`${name}/first`, [text('bytes')])));
    const calls = await tracedCalls(
      directory,
      `for (const name of ${JSON.stringify(names)}) await store.put(name + '/second', [Buffer.from('x')]);`,
    );
    expect(calls.filter((call) => call === 'fsync chunks')).to.have.length(1);
    for (const name of names) {
      expect(calls).to.include(`link ${name}/second`);
      expect(calls.lastIndexOf(`fsync ${name}`)).to.be.greaterThan(calls.indexOf(`link ${name}/second`));
    }
    expect(calls.indexOf('fsync chunks')).to.be.lessThan(calls.indexOf(`link ${names[0]}/second`));
  });

  it('removes what dead processes were writing, and nothing of the living', async () => {
    const mine = tempName();
    const [scope, pid, startedAt] = mine.split('.');
    const old = new Date(Date.now() - 48 * 3600 * 1000);
    const files: [name: string, stays: boolean, age?: Date][] = [
      [mine, true],
      [`${scope}.${pid}.${startedAt}.other-thread.1`, true, old],
      [`${scope}.${pid}.1.before-the-pid-was-reused.1`, false],
      [`${scope}.4194303.5.no-such-process.1`, false],
      [`0123456789abcdef.${pid}.${startedAt}.of-another-machine.1`, true],
      [`0123456789abcdef.${pid}.${startedAt}.of-another-machine.2`, false, old],
      ['anything', false, old],
    ];
    for (const [name, , age] of files) {
      const file = path.join(directory, '+tmp', name);
      await writeFile(file, 'x');
      if (age !== undefined) await utimes(file, age, age);
    }
    await (await openLocalBlobStore({ directory }))[Symbol.asyncDispose]();
    expect((await temps()).sort()).to.deep.equal(files.flatMap(([name, stays]) => (stays ? [name] : [])).sort());
  });

  it('fails a put whose temporary file somebody removed, and says it may be tried again', async () => {
    await store.put('chunks/ab/first', [text('x')]);
    const ended = new AbortController();
    const put = errorOf(store.put('chunks/ab/second', [Buffer.alloc(8 * 1024 * 1024)])).finally(() => ended.abort());
    while (!ended.signal.aborted) {
      // A file that is made while the folder is being removed keeps it for another round.
      await rm(path.join(directory, '+tmp'), { recursive: true, force: true }).catch(() => undefined);
      await sleep(1);
    }
    const error = await put;
    if (error !== undefined) expect(error).to.be.instanceOf(TransientError);
    await mkdir(path.join(directory, '+tmp'), { recursive: true });
    await store.put('chunks/ab/second', [text('y')]);
  });

  it('does not grow a new store where the old one was unmounted', async () => {
    await store.put('chunks/ab/first', [text('x')]);
    await rename(directory, `${directory}.away`);
    await mkdir(directory);
    const error = await errorOf(store.put('chunks/cd/second', [text('y')]));
    expect(error).to.be.instanceOf(TransientError).with.property('message', 'the folder of the blob store is away');
    expect(await readdir(directory)).to.deep.equal([]);
    await rm(directory, { recursive: true });
    await rename(`${directory}.away`, directory);
    await store.put('chunks/cd/second', [text('y')]);
  });

  it('makes a folder again that somebody removed', async () => {
    await store.put('chunks/ab/first', [text('x')]);
    await rm(path.join(directory, 'chunks'), { recursive: true });
    await store.put('chunks/ab/second', [text('y')]);
    expect((await collect(store.list(''))).map(({ key }) => key)).to.deep.equal(['chunks/ab/second']);
  });

  it('does not list what is not its own', async () => {
    await store.put('chunks/ab/abcd', [text('x')]);
    await writeFile(path.join(directory, '.DS_Store'), '');
    await writeFile(path.join(directory, 'README'), '');
    await mkdir(path.join(directory, 'lost+found'));
    await symlink('/etc', path.join(directory, 'etc'));
    expect((await collect(store.list(''))).map(({ key }) => key)).to.deep.equal(['chunks/ab/abcd']);
  });

  it('refuses a key that is a folder of other keys', async () => {
    await store.put('a/b', [text('x')]);
    expect(await errorOf(store.put('a', [text('y')])))
      .to.be.instanceOf(Error)
      .and.not.instanceOf(TransientError);
    expect(await temps()).to.deep.equal([]);
  });

  it('reads an object anew when told to, and soon anyway', async () => {
    const other = await openLocalBlobStore({ directory });
    await store.put('object', [text('old bytes')]);
    expect(Buffer.from(await store.get('object')).toString()).to.equal('old bytes');
    await other.put('object', [text('new')], { replace: true });
    expect(Buffer.from(await store.get('object', undefined, { fresh: true })).toString()).to.equal('new');
    await other[Symbol.asyncDispose]();
  });

  it('writes directly where it can and through the cache where it cannot, with the same bytes', async function () {
    const shm = '/dev/shm';
    if (
      process.platform !== 'linux' ||
      !(await stat(shm).then(
        (found) => found.isDirectory(),
        () => false,
      ))
    ) {
      console.warn(`SKIPPED: there is no ${shm}`);
      return this.skip();
    }
    const inMemory = path.join(shm, path.basename(folder.path));
    const there = await openLocalBlobStore({ directory: inMemory });
    const bytes = allocatePageAligned(1 << 20).fill(7);
    await there.put('object', [bytes]);
    expect(Buffer.compare(await there.get('object'), bytes)).to.equal(0);
    await there[Symbol.asyncDispose]();
    await rm(inMemory, { recursive: true });
  });

  it('says that the disk is full, leaves nothing behind, and goes on when there is room', async function () {
    const mounted = path.join(folder.path, 'small');
    await mkdir(mounted);
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', mounted]).status !== 0) {
      console.warn('SKIPPED: mount (needs root)');
      return this.skip();
    }
    try {
      const small = await openLocalBlobStore({ directory: path.join(mounted, 'store') });
      await small.put('first', [Buffer.alloc(2 << 20)]);
      for (const parts of [[Buffer.alloc(2 << 20)], [allocatePageAligned(2 << 20)]]) {
        const error = await errorOf(small.put('second', parts));
        expect(error).to.be.instanceOf(TransientError).with.property('message', 'the disk of the blob store is full (ENOSPC)');
      }
      expect((await collect(small.list(''))).map(({ key }) => key)).to.deep.equal(['first']);
      expect(await readdir(path.join(mounted, 'store', '+tmp'))).to.deep.equal([]);
      await small.delete('first');
      await small.put('second', [Buffer.alloc(2 << 20)]);
      await small[Symbol.asyncDispose]();
    } finally {
      spawnSync('umount', [mounted]);
    }
  });

  it('says that a folder is read-only', async function () {
    if (process.getuid?.() === 0) {
      const mounted = path.join(folder.path, 'ro');
      await mkdir(mounted);
      if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', mounted]).status !== 0) {
        console.warn('SKIPPED: mount (needs root)');
        return this.skip();
      }
      try {
        const there = await openLocalBlobStore({ directory: mounted });
        await there.put('object', [text('x')]);
        spawnSync('mount', ['-o', 'remount,ro', mounted]);
        expect(await errorOf(there.put('other', [text('y')]))).to.be.instanceOf(TransientError);
        expect(Buffer.from(await there.get('object')).toString()).to.equal('x');
        await there[Symbol.asyncDispose]();
      } finally {
        spawnSync('umount', [mounted]);
      }
      return;
    }
    await chmod(path.join(directory, '+tmp'), 0o500);
    expect(await errorOf(store.put('other', [text('y')]))).to.be.instanceOf(TransientError);
    await chmod(path.join(directory, '+tmp'), 0o700);
  });

  it('shares one sync of a folder among puts of the same moment', async () => {
    const calls = await tracedCalls(
      directory,
      `
      await store.put('a/first', [Buffer.from('x')]);
      calls.length = 0;
      await Promise.all(Array.from({ length: 16 }, (_, index) => store.put('a/' + index, [Buffer.from('x')])));`,
      16,
    );
    expect(calls.filter((call) => call.startsWith('link'))).to.have.length(16);
    expect(calls.filter((call) => call === 'fsync a').length).to.be.within(1, 15);
  });
});

/** Runs a script over a store in a process of its own; answers which calls of node:fs reached the disk, in the order in which they ended. */
async function tracedCalls(directory: string, script: string, putConcurrency = 4): Promise<string[]> {
  const source = `
    import fs from 'node:fs';
    import path from 'node:path';
    const root = ${JSON.stringify(directory)};
    const calls = [];
    const log = (line) => calls.push(line);
    const short = (file) => (path.relative(root, file) || '.').replace(/\\+tmp\\/.+/, '+tmp/?');
    const names = new Map();
    const wrap = (name, note) => {
      const real = fs[name];
      fs[name] = (...args) => {
        const done = args.pop();
        real(...args, (error, ...rest) => { if (!error) note(args, rest); done(error, ...rest); });
      };
    };
    wrap('open', ([file], [descriptor]) => names.set(descriptor, file));
    wrap('fdatasync', ([descriptor]) => log('fdatasync ' + short(names.get(descriptor))));
    wrap('fsync', ([descriptor]) => log('fsync ' + short(names.get(descriptor))));
    wrap('link', ([, to]) => log('link ' + short(to)));
    wrap('rename', ([, to]) => log('rename ' + short(to)));
    wrap('unlink', ([file]) => log('unlink ' + short(file)));
    const { openLocalBlobStore } = await import(${JSON.stringify(new URL('../../../../src/storage/drivers/local.ts', import.meta.url).href)});
    const { allocatePageAligned } = await import(${JSON.stringify(new URL('../../../../src/storage/page-aligned.ts', import.meta.url).href)});
    const store = await openLocalBlobStore({ directory: root, putConcurrency: ${putConcurrency} });
    ${script}
    console.log(JSON.stringify(calls));`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', source], { timeout: 30_000 });
  return JSON.parse(stdout) as string[];
}
