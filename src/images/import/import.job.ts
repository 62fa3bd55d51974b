// The job behind Create image from a URI: probe → open → check sizes, take them of the quota → store chunks → READY in one commit.
//
// Safe to run again at any point. A checkpoint names the root of what is durable and what the source proved to be; a later attempt
// goes on from it when the source proves the same, and begins anew otherwise.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { DiskImage, OpenLimits } from '../../formats/disk-image.ts';
import { headBytes, tailBytes } from '../../formats/file-edges.ts';
import { openDiskImage } from '../../formats/open.ts';
import { openRaw } from '../../formats/raw/index.ts';
import { recogniseFormat } from '../../formats/recognise.ts';
import type { JobHandler, RunningJob } from '../../operations/job-handler.ts';
import type { Log } from '../../platform/log.ts';
import { probeSource, type SourceInfo } from '../../sources/probe.ts';
import type { ProxyRules } from '../../sources/proxy-rules.ts';
import { readThrough } from '../../sources/download.ts';
import { spoolSource } from '../../sources/spool.ts';
import type { UrlPolicy } from '../../sources/url-policy.ts';
import { parsePageAddress } from '../../storage/address.ts';
import type { Admission } from '../../storage/admission.ts';
import type { Storage } from '../../storage/open.ts';
import { chunkBytes } from '../../storage/sizes.ts';
import { lockResource } from '../../resources/require.ts';
import { changeStatus } from '../../resources/status.ts';
import { Image } from '../image.entity.ts';
import { packImage } from '../image.mapper.ts';
import { imageResource } from '../image-resource.ts';
import { verifyPooled } from '../pool.job.ts';
import { maxImageBytes, resolveMinDiskSize } from '../sizes.ts';
import type { ChunkPool } from './chunk-pool.ts';
import { importJobKind, type ImportPayload } from './import-payload.ts';
import { LinearSink, NotLinearError } from './linear-sink.ts';
import { openSource, type SourceDescription } from './source-description.ts';
import { storeImage } from './store-image.ts';
import { takeSize } from './take-size.ts';

export interface ImportParts {
  /** Answers an EntityManager outside of any transaction. */
  fork: () => EntityManager;
  storage: Storage;
  pool: ChunkPool;
  /** What an attempt asks before it puts anything into the store. */
  admission: (writer: { operationId: string; attempt: number }) => Admission;
  urlPolicy: UrlPolicy;
  /** PEM of authorities that are trusted besides the well-known ones. */
  certificateAuthorities: string | undefined;
  proxies: ProxyRules | undefined;
  /** Where sources without ranges are copied to while they are imported. */
  spoolDirectory: string;
  log: Pick<Log, 'info'>;
  checkpointIntervalMs: number;
}

// A type, not an interface: it is kept as JSON.
export type ImportCheckpoint = {
  /** What the source proved to be when this was written. */
  version: string;
  /** Root of a layer that holds every chunk below `nextIndex`. */
  root: string;
  nextIndex: number;
};

const openLimits: OpenLimits = { maxSizeBytes: maxImageBytes, maxTableBytes: 32 * 1024 * 1024 };

export const importJob = (parts: ImportParts): JobHandler<ImportPayload, ImportCheckpoint> => ({
  kind: importJobKind,
  run: (job) => runImport(parts, job),
  /** The chunks that were stored are reached by nothing then, and left to garbage collection. */
  async abandon(em, { imageId }) {
    await em.nativeDelete(Image, { id: imageId });
  },
});

async function runImport(parts: ImportParts, job: RunningJob<ImportPayload, ImportCheckpoint>) {
  const { payload, signal } = job;
  const { certificateAuthorities, proxies } = parts;
  job.progress({ bytesDone: 0, bytesTotal: 0, phase: 'connecting' });
  const info = await probeSource(payload.uri, parts.urlPolicy, { signal, certificateAuthorities, proxies });
  const { image, root, minDiskSize } = (await importInPassing(parts, job, info)) ?? (await importByExtents(parts, job, info));
  job.progress({ bytesDone: image.sizeBytes });
  if (payload.pooled) await verifyPooled(parts.storage, root, job);
  const layer = await parts.storage.layers.open(parsePageAddress(root), signal);
  return async (em: EntityManager) => {
    const row = await lockResource(em, imageResource, payload.imageId);
    changeStatus('Image', row, 'READY');
    row.storageSize = layer.chunkCount * chunkBytes;
    row.minDiskSize = minDiskSize;
    row.layerRoot = root;
    return packImage(row);
  };
}

interface Imported {
  image: DiskImage;
  /** Of the layer, durable. */
  root: string;
  minDiskSize: number;
}

const isReadByRanges = ({ hasRanges, digest }: SourceInfo): boolean => hasRanges && digest === undefined;

/** A file holds its disk and its tables; no format needs half as much again. */
const maxSourceBytes = maxImageBytes * 1.5;

/**
 * A source that is read once through, when its first bytes make it a disk from there on: stored as it comes. Undefined for what has to
 * be imported by its extents. @throws at once what its first bytes are refused for.
 */
async function importInPassing(
  { fork, storage, pool, admission, log }: ImportParts,
  job: RunningJob<ImportPayload, ImportCheckpoint>,
  info: SourceInfo,
): Promise<Imported | undefined> {
  const { payload, signal } = job;
  const { head, sizeBytes } = info;
  if (isReadByRanges(info)) return undefined;
  const seems = recogniseFormat(head, new Uint8Array(0), sizeBytes ?? Number.MAX_SAFE_INTEGER);
  if (seems !== 'raw' || sizeBytes === undefined || sizeBytes <= headBytes + tailBytes) return undefined;
  // The size that counts may be a footer's less; it is known, and taken, at the end.
  const leastBytes = openRaw(sizeBytes - tailBytes, openLimits).sizeBytes;
  resolveMinDiskSize(payload.minDiskSize, leastBytes);
  await takeSize(fork, job, payload.imageId, leastBytes);
  if (job.attempt > 1) tellWhyAnew(log, job, 'the file is read once through, from its first byte');
  const admit = admission(job);
  const { layers } = storage.asWriter(admit);
  using chunks = pool.open({ kind: 'bytes' }, admit);
  const sink = new LinearSink({ newBuilder: () => layers.build(undefined, signal), chunks, signal });
  try {
    await readThrough(info, sink, {
      maxBytes: maxSourceBytes,
      signal,
      onProgress: ({ bytesDone }) => job.progress({ bytesDone, bytesTotal: sizeBytes, phase: 'importing' }),
    });
    const { image, root } = await sink.finish(openLimits);
    await takeSize(fork, job, payload.imageId, image.sizeBytes);
    return { image, root, minDiskSize: resolveMinDiskSize(payload.minDiskSize, image.sizeBytes) };
  } catch (error) {
    if (error instanceof NotLinearError) return undefined;
    throw error;
  } finally {
    await sink.settled();
  }
}

async function importByExtents(
  parts: ImportParts,
  job: RunningJob<ImportPayload, ImportCheckpoint>,
  info: SourceInfo,
): Promise<Imported> {
  await using stack = new AsyncDisposableStack();
  const description = await describeSource(parts, job, info, stack);
  const image = await openDiskImage(stack.use(await openSource(description)), openLimits, job.signal);
  const minDiskSize = resolveMinDiskSize(job.payload.minDiskSize, image.sizeBytes);
  await takeSize(parts.fork, job, job.payload.imageId, image.sizeBytes);
  return { image, root: await storeChunks(parts, job, { info, description, image }), minDiskSize };
}

/** A server with ranges is read in parallel as it is; any other, and one whose bytes must match a digest, is copied to a file first. */
async function describeSource(
  { spoolDirectory }: ImportParts,
  job: RunningJob<ImportPayload, ImportCheckpoint>,
  info: SourceInfo,
  stack: AsyncDisposableStack,
): Promise<SourceDescription> {
  if (isReadByRanges(info)) return { kind: 'http', info };
  const spooled = stack.use(
    await spoolSource(info, {
      directory: spoolDirectory,
      maxBytes: maxSourceBytes,
      signal: job.signal,
      onProgress: ({ bytesDone, sizeBytes }) => job.progress({ bytesDone, bytesTotal: sizeBytes ?? 0, phase: 'downloading' }),
    }),
  );
  return { kind: 'file', path: spooled.path };
}

interface OpenImport {
  info: SourceInfo;
  description: SourceDescription;
  image: DiskImage;
}

async function storeChunks(
  { storage, pool, admission, checkpointIntervalMs, log }: ImportParts,
  job: RunningJob<ImportPayload, ImportCheckpoint>,
  { info, description, image }: OpenImport,
): Promise<string> {
  const version = versionOf(info, image);
  const resumed = version !== undefined && job.checkpoint?.version === version ? job.checkpoint : undefined;
  if (job.attempt > 1 && resumed === undefined) tellWhyAnew(log, job, whyAnew(info, version, job.checkpoint));
  const admit = admission(job);
  const { layers } = storage.asWriter(admit);
  const builder = await layers.build(resumed === undefined ? undefined : parsePageAddress(resumed.root), job.signal);
  using source = pool.open(description, admit);
  // Awaited here: the source is open only inside this function.
  return await storeImage({
    image,
    source,
    builder,
    chunkBytes,
    concurrency: pool.slots,
    fromIndex: resumed?.nextIndex ?? 0,
    checkpointIntervalMs,
    async onCheckpoint({ root, nextIndex }) {
      // Without a proof of what was read, no later attempt could go on from here.
      if (version !== undefined) await job.saveCheckpoint({ version, root, nextIndex }, { pinnedRoots: [root] });
    },
    onProgress: (bytesDone) => job.progress({ bytesDone, bytesTotal: image.sizeBytes, phase: 'importing' }),
    signal: job.signal,
  });
}

const tellWhyAnew = (log: ImportParts['log'], { operationId, attempt }: RunningJob, reason: string): void =>
  log.info({ operationId, attempt, reason }, 'the import begins anew');

/** Where nothing that an earlier attempt stored can be relied on: what the operator is told of it. */
function whyAnew({ hasRanges }: SourceInfo, version: string | undefined, checkpoint: ImportCheckpoint | undefined): string {
  if (!hasRanges) return 'the server has no ranges: the file is fetched from its first byte';
  if (version === undefined) return 'the server tells the version of the file by no strong ETag and no old enough Last-Modified';
  return checkpoint === undefined ? 'there is no checkpoint yet' : 'the source is another version than the one that was begun';
}

/** What must be the same for a checkpoint to hold: the file's digest or strong validator, its length, and how it was read. */
function versionOf({ digest, validator, sizeBytes }: SourceInfo, image: DiskImage): string | undefined {
  const proof = digest === undefined ? validator && `${validator.kind}=${validator.value}` : `${digest.algorithm}=${digest.hex}`;
  return proof && `${image.format} ${image.sizeBytes} ${sizeBytes ?? '?'} ${proof}`;
}
