// Whom PostgreSQL runs as. It refuses to run as root, so a service that root started runs it as an unprivileged user of the machine;
// whether that user can reach a folder or run a program is tried, not computed: modes of all parents, ACLs and mounts have a say.
import { type ChildUser, run } from '../../platform/child-process.ts';
import { StartError } from '../../platform/start-error.ts';

// The names that packages of Linux and macOS give to PostgreSQL's own user, then the user that owns nothing.
const candidates = ['postgres', '_postgres', 'nobody'];

const commandTimeoutMs = 30_000;

/** Undefined: this process's own user. @throws StartError when this is root and there is no user to change to. */
export async function serverUser(): Promise<ChildUser | undefined> {
  if (process.getuid!() !== 0) return undefined;
  for (const name of candidates) {
    const [uid, gid] = [await idOf('-u', name), await idOf('-g', name)];
    if (uid === undefined || gid === undefined || uid === 0) continue;
    const user = { uid, gid, name };
    if (await mayRunAs(user)) return user;
  }
  throw new StartError(
    `PostgreSQL does not run as root, and none of the users ${candidates.join(', ')} can be used instead. ` +
      'Start as an ordinary user, or set DATABASE_URL to another PostgreSQL.',
  );
}

// Ids are taken as 32 bits with a sign, as spawn does: nobody is -2 on macOS.
async function idOf(option: '-u' | '-g', name: string): Promise<number | undefined> {
  const { code, output } = await run('id', [option, name], { timeoutMs: commandTimeoutMs });
  return code === 0 ? Number(output.trim()) | 0 : undefined;
}

// A container may hold root without the right to become anyone else.
const mayRunAs = (user: ChildUser): Promise<boolean> =>
  run('true', [], { user, timeoutMs: commandTimeoutMs }).then(
    ({ code }) => code === 0,
    () => false,
  );

/** Whether `user` can enter the folder; always, when it is this process's own user. */
export async function canEnter(folder: string, user: ChildUser | undefined): Promise<boolean> {
  if (user === undefined) return true;
  const { code } = await run('/bin/sh', ['-c', 'cd -- "$1"', 'sh', folder], { user, timeoutMs: commandTimeoutMs });
  return code === 0;
}
