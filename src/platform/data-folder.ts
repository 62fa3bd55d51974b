// The data folder: everything that one process keeps. One process at a time owns it, by a lock that dies with the process
// (exclusive-lock.ts); who holds it is written beside it, for the message that a second start ends with.
import { mkdir, readFile, realpath, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { takeExclusiveLock } from './exclusive-lock.ts';
import { StartError } from './start-error.ts';

export interface DataFolder extends AsyncDisposable {
  /** Absolute, without symbolic links. */
  readonly path: string;
}

/** Another process has the folder. */
export class DataFolderInUse extends StartError {}

interface Owner {
  pid: number;
  startedAt: string;
}

/**
 * Makes the folder when it is missing (mode 0700) and takes it for this process, until disposal or the process's end.
 * @throws DataFolderInUse when another process has it; StartError when it belongs to another user, or when it cannot be made or locked.
 */
export async function openDataFolder(folder: string): Promise<DataFolder> {
  const absolute = path.resolve(folder);
  try {
    await make(absolute);
    const real = await realpath(absolute);
    const lockFile = path.join(real, 'lock');
    await refuseOtherUsersFolder(real, lockFile);
    const lock = await takeExclusiveLock(lockFile);
    if (lock === undefined) throw await inUse(real);
    await writeOwner(real);
    return {
      path: real,
      async [Symbol.asyncDispose]() {
        lock[Symbol.dispose]();
      },
    };
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw await unusable(absolute, error as NodeJS.ErrnoException);
  }
}

async function make(folder: string): Promise<void> {
  await mkdir(path.dirname(folder), { recursive: true });
  try {
    await mkdir(folder, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    if (!(await stat(folder)).isDirectory()) {
      throw new StartError(`The data folder ${folder} is not a folder. Choose another one with OBRAZ_DATA_DIR.`);
    }
  }
}

// Root can write into anyone's folder, and would leave files there that its owner cannot use afterwards.
async function refuseOtherUsersFolder(folder: string, lockFile: string): Promise<void> {
  const uid = process.getuid!();
  const lock = await stat(lockFile).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (lock !== undefined && lock.uid !== uid) throw belongsToAnother(folder, lock.uid);
}

const belongsToAnother = (folder: string, uid: number): StartError =>
  new StartError(
    `The data folder ${folder} was made by the user with uid ${uid}, and this process runs as uid ${process.getuid!()}. ` +
      'Start it as that user, or choose another folder with OBRAZ_DATA_DIR.',
  );

async function unusable(folder: string, error: NodeJS.ErrnoException): Promise<StartError> {
  if (error.code === 'EACCES' || error.code === 'EPERM') {
    const owner = await stat(folder).catch(() => undefined);
    if (owner !== undefined && owner.uid !== process.getuid!()) return belongsToAnother(folder, owner.uid);
  }
  return new StartError(
    `The data folder ${folder} cannot be used: ${error.message}. Mend that, or choose another folder with OBRAZ_DATA_DIR.`,
    { cause: error },
  );
}

const ownerFile = (folder: string): string => path.join(folder, 'process.json');

const writeOwner = (folder: string): Promise<void> =>
  writeFile(ownerFile(folder), `${JSON.stringify({ pid: process.pid, startedAt: new Date().toISOString() } satisfies Owner)}\n`, {
    mode: 0o600,
  });

async function inUse(folder: string): Promise<DataFolderInUse> {
  const owner = await readOwner(folder);
  const [who, how] =
    owner === undefined
      ? ['another process', 'Stop that process']
      : [`process ${owner.pid}, started ${owner.startedAt}`, `Stop that process (Ctrl-C where it runs, or: kill ${owner.pid})`];
  return new DataFolderInUse(
    `The data folder ${folder} is in use by ${who}. ${how}, or choose another folder with OBRAZ_DATA_DIR.`,
  );
}

// The lock is certain, the file is for the message alone: a holder that has just taken the lock may not have
// written it yet, on a busy machine for a good part of a second.
async function readOwner(folder: string): Promise<Owner | undefined> {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const text = await readFile(ownerFile(folder), 'utf8').catch(() => '');
    const owner = parseOwner(text);
    if (owner !== undefined && isAlive(owner.pid)) return owner;
    await sleep(20);
  }
  return undefined;
}

function parseOwner(text: string): Owner | undefined {
  try {
    const { pid, startedAt } = JSON.parse(text) as Partial<Owner>;
    return typeof pid === 'number' && typeof startedAt === 'string' ? { pid, startedAt } : undefined;
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
