// A lock on a file that one process at a time holds and that dies with it, whatever ends it. Node offers no file locks of its own;
// SQLite, which comes with Node, takes the kernel's (fcntl, the same on Linux and macOS), so an empty database file that is never
// written serves as one. Because the kernel keeps it: no stale lock after kill -9, no mistake by a reused process id, still held by a
// stopped process, seen by every container that shares the folder, and of two that race exactly one wins. No path is too long for it,
// as it may be for a socket.
//
// Never open the lock file by other means in the process that holds it: closing any descriptor of it would release the lock.
import { accessSync, closeSync, constants, openSync } from 'node:fs';
import type * as sqliteModule from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';

const sqliteBusy = 5;

// A lock whose object is collected would be released; what is here is not collected.
const held = new Set<sqliteModule.DatabaseSync>();

// SQLite takes the lock in steps, and two that take them at the same moment may both be refused: a refusal counts when it is repeated.
const attempts = 8;
const pauseMs = 20;

/**
 * Takes the lock; undefined when another holds it (in this process or any other). The file is made when missing, mode 0600.
 * @throws the file system's error when the file cannot be made or opened for writing, or when it knows no locks.
 */
export async function takeExclusiveLock(file: string): Promise<Disposable | undefined> {
  makeWritable(file);
  for (let attempt = 1; ; attempt += 1) {
    const database = lock(file);
    if (database !== undefined) {
      held.add(database);
      return {
        [Symbol.dispose]() {
          if (held.delete(database)) database.close();
        },
      };
    }
    if (attempt === attempts) return undefined;
    await sleep(Math.random() * pauseMs);
  }
}

function lock(file: string): sqliteModule.DatabaseSync | undefined {
  const database = new (sqlite().DatabaseSync)(file);
  try {
    database.exec('PRAGMA journal_mode = OFF; BEGIN EXCLUSIVE');
    return database;
  } catch (error) {
    database.close();
    if ((error as { errcode?: number }).errcode === sqliteBusy) return undefined;
    throw error;
  }
}

// SQLite would make the file for everyone to read, and open one that it may not write without a word. A file that is there is not
// opened here: it may be this process that holds it.
function makeWritable(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    accessSync(file, constants.W_OK);
  }
}

// Some versions of Node 24 warn that SQLite is experimental: of no interest to an operator, whose data is not in it.
function sqlite(): typeof sqliteModule {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return process.getBuiltinModule('node:sqlite');
  } finally {
    process.emitWarning = emitWarning;
  }
}
