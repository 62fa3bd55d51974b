// Files of puts under way. Their names say who writes them, so that what a killed process left is removed by the next one that opens
// the store, and what a living one writes is not. A process that lost a file to a wrong guess fails that put, and no more.
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { readFolder, statFile, unlinkFile } from './file-calls.ts';
import { isMissing } from './file-errors.ts';

/** Not a key's segment, so no key can name a file in it. */
export const tempFolder = '+tmp';

/** Files of other machines and containers, whose processes cannot be seen from here, are stale at this age: no put takes as long. */
const foreignAgeMs = 24 * 60 * 60 * 1000;

const own = ownerOfThisProcess();
const instance = randomBytes(6).toString('hex');
let count = 0;

/** A name that no other process, thread or call makes. */
export function tempName(): string {
  count += 1;
  return `${own.scope}.${own.pid}.${own.startedAt}.${instance}.${count}`;
}

/** Removes what dead processes left below `folder`. @returns how many files. */
export async function removeStaleTemps(folder: string): Promise<number> {
  let removed = 0;
  for (const entry of await readFolder(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (!entry.isFile() || !(await isStale(file, entry.name))) continue;
    await unlinkFile(file).catch(ignoreMissing);
    removed += 1;
  }
  return removed;
}

async function isStale(file: string, name: string): Promise<boolean> {
  const [scope, pid, startedAt] = name.split('.');
  if (scope === own.scope) return startedAtOf(Number(pid)) !== startedAt;
  const stat = await statFile(file).catch(ignoreMissing);
  return stat !== undefined && Date.now() - stat.mtimeMs > foreignAgeMs;
}

function ignoreMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error;
}

/** `scope` is where process ids mean the same: one boot of one machine, one process namespace. */
function ownerOfThisProcess(): { scope: string; pid: number; startedAt: string } {
  let place = os.hostname();
  try {
    place = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'latin1') + fs.readlinkSync('/proc/self/ns/pid');
  } catch {
    // Not Linux.
  }
  const scope = createHash('sha256').update(place).digest('hex').slice(0, 16);
  return { scope, pid: process.pid, startedAt: startedAtOf(process.pid) ?? '0' };
}

/** When the process started, in the clock ticks of /proc (proc_pid_stat(5), field 22); undefined when there is none, '0' when unknown. */
function startedAtOf(pid: number): string | undefined {
  if (!Number.isSafeInteger(pid) || pid < 1) return undefined;
  try {
    const text = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is a name that may hold spaces and brackets.
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    if (fs.existsSync('/proc/self/stat')) return undefined;
  }
  try {
    process.kill(pid, 0);
    return '0';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH' ? undefined : '0';
  }
}
