// The cluster: made once, whole or not at all, and only ever opened by the major version that made it.
import { randomBytes } from 'node:crypto';
import { chown, mkdir, readFile, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { type ChildUser, run } from '../../platform/child-process.ts';
import { exists, renameDurably, writeDurably } from '../../platform/durable-file.ts';
import { StartError } from '../../platform/start-error.ts';
import type { Binaries } from './binaries.ts';
import { superuser } from './roles.ts';

const unfinishedPrefix = 'data.unfinished-';
const initdbTimeoutMs = 120_000;

export interface Cluster {
  folder: string;
  /** Of both roles. */
  password: string;
  /** Who runs it. */
  user: ChildUser | undefined;
}

export interface ClusterOptions {
  binaries: Binaries;
  /** Who would run a new cluster; an existing one is run by its owner. */
  user: ChildUser | undefined;
  durable: boolean;
  signal?: AbortSignal | undefined;
}

/**
 * Opens the cluster of a home, and makes it first where there is none. The caller holds the home's lock.
 * @throws StartError when the cluster is of another major version, of another user, or has lost its password.
 */
export async function openCluster(home: string, options: ClusterOptions): Promise<Cluster> {
  const { binaries, user } = options;
  await removeUnfinished(home);
  const folder = path.join(home, 'data');
  const passwordFile = path.join(home, 'password');
  if (!(await exists(folder))) {
    if (!(await exists(passwordFile))) await writeDurably(passwordFile, `${randomBytes(24).toString('base64url')}\n`, user);
    await initialise(home, folder, passwordFile, options);
  } else {
    await refuseOtherVersion(folder, binaries.majorVersion);
  }
  return { folder, password: await readPassword(passwordFile, folder), user: await ownerOf(folder, user) };
}

// initdb killed half-way leaves its folder behind, under a name that nobody takes for a cluster.
async function removeUnfinished(home: string): Promise<void> {
  for (const name of await readdir(home)) {
    if (name.startsWith(unfinishedPrefix)) await rm(path.join(home, name), { recursive: true, force: true, maxRetries: 5 });
  }
}

async function initialise(
  home: string,
  folder: string,
  passwordFile: string,
  { binaries, user, durable, signal }: ClusterOptions,
): Promise<void> {
  const unfinished = path.join(home, `${unfinishedPrefix}${randomBytes(6).toString('hex')}`);
  await mkdir(unfinished, { mode: 0o700 });
  if (user !== undefined) await chown(unfinished, user.uid, user.gid);
  // Encoding and order are the same on every machine: nothing is taken from the environment. initdb waits until all is on the disk.
  const args = [
    `--pgdata=${unfinished}`,
    `--username=${superuser}`,
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--text-search-config=simple',
    '--no-instructions',
    ...(durable ? [] : ['--no-sync']),
  ];
  const { code, output } = await run(binaries.initdb, args, { user, signal, timeoutMs: initdbTimeoutMs });
  if (code !== 0) {
    await rm(unfinished, { recursive: true, force: true });
    const hint = output.includes('user does not exist')
      ? `\nGive uid ${process.getuid!()} a name in /etc/passwd, start as a user that has one, or set DATABASE_URL to another PostgreSQL.`
      : '';
    throw new StartError(`A database could not be made in ${home}; initdb said:\n${output.trim()}${hint}`);
  }
  await renameDurably(unfinished, folder);
}

async function refuseOtherVersion(folder: string, majorVersion: number): Promise<void> {
  const version = await readFile(path.join(folder, 'PG_VERSION'), 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );
  if (version === undefined)
    throw new StartError(`${folder} is not a PostgreSQL cluster: it has no PG_VERSION that can be read.`);
  if (version !== String(majorVersion)) {
    throw new StartError(
      `The database in ${folder} is of PostgreSQL ${version}, and this version of the service brings PostgreSQL ${majorVersion}. ` +
        `Move the data with PostgreSQL's own tools (pg_dump ${version}, or pg_upgrade), or go back to the version that made it.`,
    );
  }
}

async function readPassword(file: string, folder: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    throw new StartError(`The password of the database in ${folder} cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

// PostgreSQL runs as the owner of its cluster or not at all. As root: also when the machine has another candidate by now.
async function ownerOf(folder: string, user: ChildUser | undefined): Promise<ChildUser | undefined> {
  const { uid, gid } = await stat(folder);
  if (user === undefined ? uid === process.getuid!() : uid === toUnsigned(user.uid)) return user;
  if (user === undefined || uid === 0) {
    throw new StartError(
      `The database in ${folder} belongs to uid ${uid}, as whom this process (uid ${process.getuid!()}) cannot run it.`,
    );
  }
  return { uid: uid | 0, gid: gid | 0, name: `uid ${uid}` };
}

const toUnsigned = (id: number): number => id >>> 0;
