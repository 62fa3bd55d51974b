// The folder of the server's Unix socket: private, and short enough, since a socket's path has 104 bytes on macOS and 108 on Linux, the
// closing zero included, and data folders may be deep.
import { chmod, chown, mkdir, mkdtemp, readFile, readdir, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ChildUser } from '../../platform/child-process.ts';
import { writeDurably } from '../../platform/durable-file.ts';
import { StartError } from '../../platform/start-error.ts';
import { canEnter } from './server-user.ts';
import { port } from './settings.ts';

const pathLimitBytes = 103;
const prefix = 'obraz-';

/**
 * An empty folder for the socket. What an earlier run left is removed: the caller holds the home's lock and no server runs.
 * In the home where that is short enough, else in a temporary folder, whose path is kept in the home for the next start.
 */
export async function makeSocketFolder(home: string, user: ChildUser | undefined): Promise<string> {
  await removeSocketFolder(home);
  const inside = path.join(home, 'run');
  if (fits(inside)) {
    await mkdir(inside, { mode: 0o700 });
    await giveTo(inside, user);
    return inside;
  }
  for (const parent of new Set([tmpdir(), '/tmp'])) {
    if (!fits(path.join(parent, `${prefix}XXXXXX`)) || !(await canEnter(parent, user))) continue;
    const folder = await mkdtemp(path.join(parent, prefix));
    await writeDurably(recordFile(home), `${folder}\n`);
    await giveTo(folder, user);
    return folder;
  }
  throw new StartError(`There is no place for PostgreSQL's socket: ${home} is too deep, and no temporary folder can be used.`);
}

/** Removes the folder that `makeSocketFolder` made, if there is one. */
export async function removeSocketFolder(home: string): Promise<void> {
  await rm(path.join(home, 'run'), { recursive: true, force: true });
  const recorded = (await readFile(recordFile(home), 'utf8').catch(() => '')).trim();
  // Only what looks like ours, and nothing but sockets in it: the record may be old, and the name another's by now.
  if (path.basename(recorded).startsWith(prefix)) {
    for (const name of await readdir(recorded).catch(() => [])) {
      if (name.startsWith(socketName)) await rm(path.join(recorded, name), { force: true }).catch(() => {});
    }
    await rmdir(recorded).catch(() => {});
  }
  await rm(recordFile(home), { force: true });
}

const socketName = `.s.PGSQL.${port}`;

const recordFile = (home: string): string => path.join(home, 'socket-folder');

const fits = (folder: string): boolean => Buffer.byteLength(path.join(folder, socketName)) <= pathLimitBytes;

async function giveTo(folder: string, user: ChildUser | undefined): Promise<void> {
  await chmod(folder, 0o700);
  if (user !== undefined) await chown(folder, user.uid, user.gid);
}
