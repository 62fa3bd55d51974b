// The machine: one data folder, by a random name that is kept in it. What is written to disks and not committed yet lies in its
// files. Whoever holds the folder's lock is the machine; no other process writes those files or speaks in the machine's name.
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { writeDurably } from '../platform/durable-file.ts';
import { StartError } from '../platform/start-error.ts';

const pattern = /^[a-z0-9][a-z0-9-]{0,60}$/;

/** Reads the file, or makes it: `<host name>-<8 hex digits>`, so that people know which machine is meant. @throws StartError */
export async function readMachineId(file: string, host = hostname()): Promise<string> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text !== undefined) {
    const id = text.trim();
    if (pattern.test(id)) return id;
    throw new StartError(`${file} does not hold the name of a machine. Restore it: what was written to disks is found by it.`);
  }
  const id = `${shortened(host)}-${randomBytes(4).toString('hex')}`;
  await writeDurably(file, `${id}\n`);
  return id;
}

const shortened = (host: string): string => {
  const plain = host
    .toLowerCase()
    .split('.')[0]!
    .replaceAll(/[^a-z0-9-]/g, '-');
  return plain.replace(/^-+/, '').slice(0, 40) || 'machine';
};
