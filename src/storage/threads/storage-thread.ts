// One of the threads of storage-threads.ts. It opens the store for itself; guest bytes go to and from shared memory and files only.
import fs from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { fromPosted, toPosted } from '../../platform/posted-error.ts';
import { parseChunkAddress } from '../address.ts';
import type { Admission, Admitted } from '../admission.ts';
import { ChunkBuffer, type Packing } from '../chunk-encoder.ts';
import { closeFile, openFile } from '../drivers/local/file-calls.ts';
import { openLocalBlobStore } from '../drivers/local.ts';
import { openStorageOn, type Storage } from '../open.ts';
import { type FoldFile, type FoldLog, foldChunk } from '../overlay/fold-chunk.ts';
import { blockBytes } from '../sizes.ts';
import { untilAborted } from '../../platform/until-aborted.ts';
import type { FromThread, ToThread } from './messages.ts';

/** Plain data: it goes to threads. */
export interface ThreadOptions {
  /** The folder of the local driver. */
  directory: string;
  packing?: Packing | undefined;
}

interface OpenFold {
  storage: Storage;
  logs: FoldLog[];
}

/** Blocks that were read and are not told of yet. */
const mostBlocksHeld = 4;

const port = parentPort!;
const { directory, packing } = workerData as ThreadOptions;
const blobs = openLocalBlobStore({ directory });
const reading = blobs.then((store) => openStorageOn(store, { onCorrupt, blockingReads: true }));
const slabs: SharedArrayBuffer[] = [];
const folds = new Map<number, Promise<OpenFold>>();
const tasks = new Map<number, AbortController>();
const asks = new Map<number, PromiseWithResolvers<readonly Admitted[]>>();
const freeBuffers: ChunkBuffer[] = [];
let lastAskId = 0;

reading.catch(() => undefined);

port.on('message', (message: ToThread) => {
  switch (message.kind) {
    case 'slab':
      slabs[message.slab] = message.memory;
      break;
    case 'read':
      void read(message);
      break;
    case 'openFold': {
      const opened = openFold(message.foldId, message.files);
      opened.catch(() => undefined);
      folds.set(message.foldId, opened);
      break;
    }
    case 'closeFold':
      void closeFold(message.foldId);
      break;
    case 'fold':
      void fold(message);
      break;
    case 'cancel':
      tasks.get(message.taskId)?.abort(new Error('cancelled'));
      break;
    case 'admitted':
      asks.get(message.askId)?.resolve(message.admitted);
      asks.delete(message.askId);
      break;
    case 'refused':
      asks.get(message.askId)?.reject(fromPosted(message.error));
      asks.delete(message.askId);
      break;
  }
});

const post = (message: FromThread): void => port.postMessage(message);

const answers: FromThread[] = [];
let blocksAnswered = 0;

/** Small answers of one turn go together; large ones at once. */
function answerSoon(message: FromThread, blocks: number): void {
  answers.push(message);
  blocksAnswered += blocks;
  if (blocksAnswered >= mostBlocksHeld) flushAnswers();
  else if (answers.length === 1) setImmediate(flushAnswers);
}

function flushAnswers(): void {
  if (answers.length > 0) post({ kind: 'several', messages: answers.splice(0) });
  blocksAnswered = 0;
}

function onCorrupt(finding: Extract<FromThread, { kind: 'corrupt' }>['finding']): void {
  post({ kind: 'corrupt', finding });
}

async function read({ taskId, address, first, slots, checks }: ToThread & { kind: 'read' }): Promise<void> {
  try {
    const { chunks } = await reading;
    const targets: Buffer[] = [];
    for (let at = 0; at < slots.length; at += 2) targets.push(Buffer.from(slabs[slots[at]!]!, slots[at + 1], blockBytes));
    // readBlocks speaks of all blocks of a chunk, the message of these.
    const all = new Uint32Array(64);
    all.set(checks, first);
    await chunks.readBlocks(parseChunkAddress(address), first, targets, all);
    answerSoon({ kind: 'read', taskId, checks: Array.from(all.subarray(first, first + targets.length)) }, targets.length);
  } catch (error) {
    post({ kind: 'failed', taskId, error: toPosted(error) });
  }
}

async function openFold(foldId: number, files: readonly FoldFile[]): Promise<OpenFold> {
  const storage = await openStorageOn(await blobs, { admission: admissionOf(foldId), onCorrupt, packing, warm: true });
  const logs: FoldLog[] = [];
  for (const { file, title } of files)
    logs.push({ title, descriptor: await openFile(file, fs.constants.O_RDONLY, 0), blocking: true });
  return { storage, logs };
}

const admissionOf =
  (foldId: number): Admission =>
  (keys, signal) => {
    const askId = ++lastAskId;
    const ask = Promise.withResolvers<readonly Admitted[]>();
    asks.set(askId, ask);
    post({ kind: 'admit', askId, foldId, keys });
    return untilAborted(ask.promise, signal);
  };

async function closeFold(foldId: number): Promise<void> {
  const opened = await folds.get(foldId)?.catch(() => undefined);
  folds.delete(foldId);
  if (folds.size === 0) freeBuffers.length = 0;
  // The blob store is the thread's: it stays.
  for (const log of opened?.logs ?? []) await closeFile(log.descriptor);
}

async function fold({ taskId, foldId, base, patch }: ToThread & { kind: 'fold' }): Promise<void> {
  const controller = new AbortController();
  tasks.set(taskId, controller);
  const buffer = freeBuffers.pop() ?? new ChunkBuffer();
  let answer: FromThread;
  try {
    const { storage, logs } = await folds.get(foldId)!;
    const address = base === undefined ? undefined : parseChunkAddress(base);
    const stored = await foldChunk(storage.chunks, buffer, address, patch, logs, controller.signal);
    answer = { kind: 'folded', taskId, address: stored };
  } catch (error) {
    answer = { kind: 'failed', taskId, error: toPosted(error) };
  }
  freeBuffers.push(buffer);
  tasks.delete(taskId);
  post(answer);
}
