// Events as JSON lines in a file or on standard output, each once and in the order of their numbers, over restarts.
//
// A cursor in the data folder tells what was written. It is replaced after the lines are durable, so a crash between the two would repeat
// them: with a file its last line is believed instead, and a line that a crash cut short is cut off. (On standard output nothing can be
// read back: there what was written last before a crash may come twice, and nothing is ever missing.)
//
// A database that is restored from a backup gives numbers again that it has given before. So the cursor names the event of its number:
// when that number has another event now, or was not given yet, the lines go on after the last event in the file that the database knows.
//
// The file is opened for each batch, so it may be renamed at any time: the next lines go into a new one.
import { open, readFile, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { EntityManager } from '@mikro-orm/postgresql';
import { replaceFile } from '../platform/replace-file.ts';
import { toLine } from './event.ts';
import { type EventPlace, eventAt, eventsAfter, lastNumbered, lastOf } from './event-queries.ts';

export interface FileSinkParts {
  fork: () => EntityManager;
  /** A path, or `-` for standard output. */
  target: string;
  cursorFile: string;
  log: { warn: (fields: object, text: string) => void };
  intervalMs?: number;
  /** Where `-` goes; for tests. Resolves when the text has been taken. */
  writeOut?: (text: string) => Promise<void>;
}

/** The event that was written last; of number 0 before the first. */
interface Cursor extends EventPlace {
  target: string;
}

const batchEvents = 500;
const defaultIntervalMs = 400;
/** The longest line is shorter. */
const lineStart = '{"eventId":';
const tailBytes = 2 * 1024 * 1024;

/** Writes until `signal` fires, and then what there is once more; never throws. What fails is tried again. */
export async function writeEvents(parts: FileSinkParts, signal: AbortSignal): Promise<void> {
  let cursor: Cursor | undefined;
  let failing = false;
  for (let isLast = false; ; isLast = signal.aborted) {
    try {
      if (cursor !== undefined && !(await isOfDatabase(parts.fork(), cursor))) cursor = undefined;
      cursor ??= await restoreCursor(parts);
      while (await writeBatch(parts, cursor));
      failing = false;
    } catch (error) {
      // Where it stopped is not known: the file is looked at again.
      cursor = undefined;
      if (!failing) parts.log.warn({ err: error }, `audit events cannot be written to ${parts.target}; trying again`);
      failing = true;
    }
    if (isLast) return;
    await delay(parts.intervalMs ?? defaultIntervalMs, undefined, { signal }).catch(() => {});
  }
}

/** False when there was none: nothing more for now. */
async function writeBatch(parts: FileSinkParts, cursor: Cursor): Promise<boolean> {
  const events = await eventsAfter(parts.fork(), cursor.position, batchEvents);
  const last = events.at(-1);
  if (last === undefined) return false;
  const text = events.map(({ event }) => `${toLine(event)}\n`).join('');
  if (parts.target === '-') await (parts.writeOut ?? writeStandardOutput)(text);
  else await append(parts.target, text);
  cursor.position = last.position;
  cursor.eventId = last.event.eventId;
  await replaceFile(parts.cursorFile, `${JSON.stringify(cursor)}\n`, 0o600);
  return true;
}

async function append(file: string, text: string): Promise<void> {
  const handle = await open(file, 'a', 0o600);
  try {
    await handle.appendFile(text);
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

const writeStandardOutput = (text: string): Promise<void> =>
  new Promise((resolve, reject) => process.stdout.write(text, (error) => (error ? reject(error) : resolve())));

/**
 * Where to go on: after the last line of the file, or what the cursor says when the file does not say more. From the first event for a new
 * target.
 */
async function restoreCursor({ fork, target, cursorFile, log }: FileSinkParts): Promise<Cursor> {
  const kept = await readCursor(cursorFile);
  const em = fork();
  const start = { target, position: 0, eventId: '' };
  const cursor = kept?.target === target ? kept : start;
  const isOurs = await isOfDatabase(em, cursor);
  // Before the events of the file get their numbers: what has none yet is not passed over.
  const newest = isOurs ? undefined : await lastNumbered(em);
  const written = await lastOf(em, target === '-' ? [] : await mendFile(target));
  if (isOurs) return written !== undefined && written.position > cursor.position ? { target, ...written } : cursor;
  const goOn = written ?? newest ?? start;
  log.warn(
    { position: cursor.position, eventId: cursor.eventId, goOnAfter: goOn.position },
    `the database does not have the audit event that was written last to ${target}: was it restored from a backup?`,
  );
  return { ...goOn, target };
}

/** Whether the cursor's number was given to its event. One that was removed for its age has a lower number than others. */
async function isOfDatabase(em: EntityManager, { position, eventId }: Cursor): Promise<boolean> {
  if (position === 0) return true;
  const event = await eventAt(em, position);
  if (event !== undefined) return event.eventId === eventId;
  const newest = await lastNumbered(em);
  return newest !== undefined && position < newest.position;
}

async function readCursor(file: string): Promise<Cursor | undefined> {
  try {
    const cursor = JSON.parse(await readFile(file, 'utf8')) as Partial<Cursor>;
    const { target, position, eventId } = cursor;
    const isWhole = typeof target === 'string' && Number.isSafeInteger(position) && typeof eventId === 'string';
    return isWhole ? (cursor as Cursor) : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Cuts off a line that was not written whole, and answers the ids of the events in the last ones, in their order. */
async function mendFile(file: string): Promise<string[]> {
  // To open a pipe would wait for its reader, for ever perhaps.
  const kind = await stat(file).catch(() => undefined);
  if (kind !== undefined && !kind.isFile()) throw new Error(`${file} is not a file`);
  const handle = await open(file, 'r+').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (handle === undefined) return [];
  try {
    const { size } = await handle.stat();
    const start = Math.max(0, size - tailBytes);
    const tail = Buffer.alloc(size - start);
    await handle.read(tail, 0, tail.length, start);
    const end = tail.lastIndexOf('\n') + 1;
    // Without one end of a line in all that, it is not our file: it is left as it is.
    if (end === 0 && start > 0) return [];
    if (end < tail.length) {
      const begun = tail.subarray(end, end + lineStart.length).toString();
      if (!lineStart.startsWith(begun)) throw new Error(`${file} does not end with an audit event: is it another program's?`);
      await handle.truncate(start + end);
    }
    return eventIds(tail.subarray(0, end).toString('utf8'));
  } finally {
    await handle.close();
  }
}

const eventIds = (lines: string): string[] => [...lines.matchAll(/^\{"eventId":"([\w-]{1,100})"/gm)].map(([, id]) => id!);
