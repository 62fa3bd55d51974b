// A thread of the import: fetches the file ranges of a chunk, unpacks and hashes it, and stores it durably. Its memory is bounded: so many
// chunks' buffers, each used again as soon as the system has its bytes, and one range under way per chunk that is being filled.
import { workerData } from 'node:worker_threads';
import { assemble, type FileRange, mergeRanges } from '../../formats/file-ranges.ts';
import type { ByteSource } from '../../platform/byte-source.ts';
import { openLocalBlobStore } from '../../storage/drivers/local.ts';
import { onDemand } from '../../platform/on-demand.ts';
import { openStorageOn, type Storage } from '../../storage/open.ts';
import { ChunkMemory, type ThreadBounds } from '../../storage/threads/chunk-memory.ts';
import { serveTasks } from '../../storage/threads/serve-tasks.ts';
import type { ChunkPlan } from './plan.ts';
import { openSource, type SourceDescription } from './source-description.ts';

/** Plain data: it goes to threads. */
export interface ThreadOptions {
  /** Another store in its place is refused, and none is made. */
  storage: { directory: string; storeId: string };
  bounds: ThreadBounds;
}

export interface StoredChunk {
  /** Undefined when the chunk holds only zeros. It is durable otherwise. */
  address: string | undefined;
  /** Bytes that were read from the source for it. */
  bytesFetched: number;
}

export interface ChunkDialogue {
  description: SourceDescription;
  work:
    | { kind: 'plan'; plan: ChunkPlan }
    /** For a chunk whose bytes are there, in shared memory that is the sender's again when it is stored. */
    | { kind: 'bytes'; bytes: Uint8Array };
  answer: StoredChunk;
  note: never;
}

interface Source {
  bytes: ByteSource;
  /** The thread's store, with the admission of this source's import. */
  storage: Storage;
}

/** Neighbours in the file are fetched together; what lies in a small gap costs less than another request. */
const maxGapBytes = 16 * 1024;
/** The longest range that does not go straight to its place: enough to keep a connection busy, and small beside a chunk. */
const maxMergedBytes = 1024 * 1024;

const {
  storage: { directory, storeId },
  bounds,
} = workerData as ThreadOptions;
const blobs = onDemand(() => openLocalBlobStore({ directory, create: false, putConcurrency: bounds.putsAtOnce }));
const chunks = new ChunkMemory(bounds.chunksInMemory);
/** Where file bytes arrive that do not go straight to their place; as many as chunks were ever being filled at once. */
const freeRanges: Uint8Array[] = [];
let openSources = 0;

serveTasks<ChunkDialogue, Source>({
  async open(description, admission) {
    const storage = await openStorageOn(await blobs(), { storeId, admission });
    const bytes = await openSource(description);
    openSources += 1;
    return { storage, bytes };
  },
  // The blob store is the thread's: it stays.
  async close({ bytes }) {
    openSources -= 1;
    if (openSources === 0) {
      chunks.clear();
      freeRanges.length = 0;
    }
    await bytes[Symbol.asyncDispose]();
  },
  async run(work, source, signal, taken) {
    using chunk = await chunks.take(signal);
    const { data } = chunk.buffer;
    const bytesFetched = work.kind === 'plan' ? await fill(data, source!.bytes, work.plan, signal!) : 0;
    if (work.kind === 'bytes') data.set(work.bytes);
    const onTaken = (): void => {
      chunk.free();
      taken();
    };
    return { address: await source!.storage.chunks.store(chunk.buffer, { signal, onTaken }), bytesFetched };
  },
});

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
