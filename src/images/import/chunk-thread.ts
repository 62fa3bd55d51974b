// A thread of the import: fetches the file ranges of a chunk, unpacks and hashes it, and stores it durably. Its memory is bounded by
// its slots: one chunk's buffer each, and one range under way per chunk that is being filled.
import { parentPort, workerData } from 'node:worker_threads';
import { assemble, type FileRange, mergeRanges } from '../../formats/file-ranges.ts';
import type { ByteSource } from '../../platform/byte-source.ts';
import { fromPosted, toPosted } from '../../platform/posted-error.ts';
import type { Admission, Admitted } from '../../storage/admission.ts';
import { ChunkBuffer } from '../../storage/chunk-encoder.ts';
import { openLocalBlobStore } from '../../storage/drivers/local.ts';
import { openStorageOn, type Storage, type StorageOptions } from '../../storage/open.ts';
import { untilAborted } from '../../platform/until-aborted.ts';
import type { FromThread, ToThread } from './messages.ts';
import { openSource, type SourceDescription } from './source-description.ts';
import type { ChunkPlan } from './plan.ts';

export interface ThreadOptions {
  storage: Pick<StorageOptions, 'directory'>;
  /** Chunks that one thread works on at once: while one is hashed, others wait for the network and the disk. */
  slotsPerThread: number;
}

const port = parentPort!;
const options = workerData as ThreadOptions;
const blobs = openLocalBlobStore(options.storage);
const sources = new Map<number, Promise<Source>>();
const asks = new Map<number, PromiseWithResolvers<readonly Admitted[]>>();
let lastAskId = 0;
const tasks = new Map<number, AbortController>();
/** The memory of chunks that are not under way, used again and again. */
const freeChunks: ChunkBuffer[] = [];
/** Where file bytes arrive that do not go straight to their place; as many as chunks were ever being filled at once. */
const freeRanges: Uint8Array[] = [];

interface Source {
  bytes: ByteSource;
  /** The thread's store, with the admission of this source's import. */
  storage: Storage;
}

/** Neighbours in the file are fetched together; what lies in a small gap costs less than another request. */
const maxGapBytes = 16 * 1024;
/** The longest range that does not go straight to its place: enough to keep a connection busy, and small beside a chunk. */
const maxMergedBytes = 1024 * 1024;

port.on('message', (message: ToThread) => {
  switch (message.kind) {
    case 'open':
      sources.set(message.sourceId, open(message.sourceId, message.source));
      break;
    case 'close':
      void closeSource(message.sourceId);
      break;
    case 'store':
      void run(message.taskId, message.sourceId, (chunk, source, signal) => fill(chunk.data, source, message.plan, signal));
      break;
    case 'storeBytes':
      void run(message.taskId, message.sourceId, async (chunk) => {
        chunk.data.set(message.bytes);
        return 0;
      });
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

async function open(sourceId: number, description: SourceDescription): Promise<Source> {
  const storage = await openStorageOn(await blobs, { admission: admissionOf(sourceId) });
  return { storage, bytes: await openSource(description) };
}

const admissionOf =
  (sourceId: number): Admission =>
  (keys, signal) => {
    const askId = ++lastAskId;
    const ask = Promise.withResolvers<readonly Admitted[]>();
    asks.set(askId, ask);
    port.postMessage({ kind: 'admit', askId, sourceId, keys } satisfies FromThread);
    return untilAborted(ask.promise, signal);
  };

async function closeSource(sourceId: number): Promise<void> {
  const source = await sources.get(sourceId)?.catch(() => undefined);
  sources.delete(sourceId);
  // The blob store is the thread's: it stays.
  await source?.bytes[Symbol.asyncDispose]();
}

/** Puts a chunk's bytes where they belong and answers how many were fetched for it. */
type Fill = (chunk: ChunkBuffer, source: ByteSource, signal: AbortSignal) => Promise<number>;

async function run(taskId: number, sourceId: number, fillChunk: Fill): Promise<void> {
  const controller = new AbortController();
  tasks.set(taskId, controller);
  const chunk = freeChunks.pop() ?? new ChunkBuffer();
  let answer: FromThread;
  try {
    const source = await sources.get(sourceId);
    if (source === undefined) throw new Error(`source ${sourceId} is not open`);
    const bytesFetched = await fillChunk(chunk, source.bytes, controller.signal);
    const address = await source.storage.chunks.store(chunk, controller.signal);
    answer = { kind: 'stored', taskId, address, bytesFetched };
  } catch (error) {
    answer = { kind: 'failed', taskId, error: toPosted(error) };
  }
  freeChunks.push(chunk);
  tasks.delete(taskId);
  port.postMessage(answer);
}

/** Puts the chunk's guest bytes into `data`, zeros behind the end of the disk. Answers how many bytes were read for it. */
async function fill(data: Uint8Array, source: ByteSource, plan: ChunkPlan, signal: AbortSignal): Promise<number> {
  const base = plan.index * data.length;
  for (const extent of plan.extents) {
    if (extent.kind === 'zero') data.fill(0, extent.offset - base, extent.offset - base + extent.length);
  }
  data.fill(0, plan.lengthBytes);
  let bytesFetched = 0;
  const isWhole = plan.extents.filter(({ kind }) => kind !== 'zero').length === 1;
  const maxRangeBytes = isWhole ? data.length : maxMergedBytes;
  for (const range of mergeRanges(plan.extents, { maxGapBytes, maxRangeBytes })) {
    bytesFetched += range.length;
    const [first] = range.extents;
    if (range.extents.length === 1 && first!.kind === 'raw') {
      // Straight from the socket to where it belongs.
      await source.read(data.subarray(first!.offset - base, first!.offset - base + first!.length), range.at, signal);
    } else await fillPart(data, base, range, source, signal);
  }
  return bytesFetched;
}

async function fillPart(
  data: Uint8Array,
  base: number,
  { at, length, extents }: FileRange,
  source: ByteSource,
  signal: AbortSignal,
): Promise<void> {
  // A single packed unit may be longer.
  const held = length > maxMergedBytes ? new Uint8Array(length) : (freeRanges.pop() ?? new Uint8Array(maxMergedBytes));
  try {
    const bytes = held.subarray(0, length);
    await source.read(bytes, at, signal);
    assemble(data, base, extents, bytes, at);
  } finally {
    if (held.length === maxMergedBytes) freeRanges.push(held);
  }
}
