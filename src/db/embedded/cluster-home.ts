// Where the embedded PostgreSQL lies. The home belongs to the service's user; what PostgreSQL's user must write belongs to that one.
//
//   <home>/lock             held by the process that runs it (a copied data folder must not start a second server here)
//   <home>/password         of both roles, mode 0600
//   <home>/postgresql.conf  written at every start; postgresql.local.conf beside it is the operator's, when there is one
//   <home>/postgres.log     and .1, the one before
//   <home>/run/             its Unix socket, where the path is short enough for one
//   <home>/data/            the cluster
//
// The home is <data folder>/postgres. When root starts the service, PostgreSQL's user must be able to reach it: the data folder itself
// is opened for that user's group to pass through, parents are never touched. Below a parent that does not let it pass, the home is
// /var/lib/obraz/<random id> and the data folder keeps its path in postgres.location: so a data folder that was deleted and made
// again never meets the old cluster.
import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import type { ChildUser } from '../../platform/child-process.ts';
import { exists, writeDurably } from '../../platform/durable-file.ts';
import { StartError } from '../../platform/start-error.ts';
import { canEnter } from './server-user.ts';

/** Homes outside data folders lie here. */
export const outsideFolder = '/var/lib/obraz';

/** The file in the data folder that names a home outside. */
export const locationFile = (dataDirectory: string): string => path.join(dataDirectory, 'postgres.location');

/**
 * Finds or makes the home of a data folder's cluster. `dataDirectory` is absolute and exists.
 * @throws StartError when the cluster that belongs here cannot be reached by `user`, is gone, or belongs to another user.
 */
export async function clusterHome(dataDirectory: string, user: ChildUser | undefined): Promise<string> {
  const outside = await recordedHome(dataDirectory);
  if (outside !== undefined) return outside;
  const inside = path.join(dataDirectory, 'postgres');
  await refuseOtherUsersHome(inside);
  if (await letPass(dataDirectory, user)) {
    await makeHome(inside, user);
    return inside;
  }
  if (await exists(path.join(inside, 'data'))) {
    throw new StartError(
      `The database in ${inside} cannot be reached by the user "${user!.name}", whom PostgreSQL runs as when root starts it. ` +
        `Let others pass through its parent folders (chmod o+x), or move ${dataDirectory} where they can.`,
    );
  }
  return makeHomeOutside(dataDirectory, user);
}

async function recordedHome(dataDirectory: string): Promise<string | undefined> {
  const file = locationFile(dataDirectory);
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const home = text.trim();
  if (!(await exists(home))) {
    throw new StartError(
      `The database of this data folder lies in ${home} (says ${file}), and that folder is gone. ` +
        'Bring it back, or choose another folder with OBRAZ_DATA_DIR to begin anew.',
    );
  }
  await refuseOtherUsersHome(home);
  return home;
}

// True when `user` can enter the folder, after opening it for that user's group where that is ours to do: the folder is root's and
// was closed to everyone else, so nobody loses anything.
async function letPass(folder: string, user: ChildUser | undefined): Promise<boolean> {
  if (user === undefined || (await canEnter(folder, user))) return true;
  const { uid, mode } = await stat(folder);
  if (uid !== 0 || (mode & 0o077) !== 0 || !(await canEnter(path.dirname(folder), user))) return false;
  await chown(folder, 0, user.gid);
  await chmod(folder, (mode & 0o700) | 0o010);
  return canEnter(folder, user);
}

async function makeHome(home: string, user: ChildUser | undefined): Promise<void> {
  await mkdir(home, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  if (user !== undefined) {
    await chown(home, process.getuid!(), user.gid);
    await chmod(home, 0o710);
  }
}

async function makeHomeOutside(dataDirectory: string, user: ChildUser | undefined): Promise<string> {
  const home = path.join(outsideFolder, randomBytes(12).toString('hex'));
  try {
    if ((await mkdir(outsideFolder, { recursive: true })) !== undefined) await chmod(outsideFolder, 0o755);
    await makeHome(home, user);
    if (!(await canEnter(home, user))) throw new Error(`user "${user?.name}" cannot enter ${home}`);
  } catch (error) {
    throw new StartError(
      `PostgreSQL runs as the user "${user?.name}" when root starts it; that user cannot reach ${dataDirectory}, and no folder could ` +
        `be made elsewhere: ${(error as Error).message}. Let others pass through the parents of the data folder (chmod o+x), choose ` +
        'another folder with OBRAZ_DATA_DIR, or start as an ordinary user.',
      { cause: error },
    );
  }
  await writeDurably(locationFile(dataDirectory), `${home}\n`);
  return home;
}

async function refuseOtherUsersHome(home: string): Promise<void> {
  if (!(await exists(home))) return;
  const { uid } = await stat(home);
  if (uid === process.getuid!()) return;
  throw new StartError(
    `The database in ${home} was made by the user with uid ${uid}, and this process runs as uid ${process.getuid!()}. ` +
      'Start it as that user, or choose another folder with OBRAZ_DATA_DIR.',
  );
}
