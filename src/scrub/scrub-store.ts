// One pass of scrub over the service's store: everything is read again and compared with its address, and for each object that is damaged
// or missing it is told which images, snapshots and disks need it. It only reads, and marks what is damaged, so that the next put of
// the same data repairs it; any number may run at the same time, beside everything else.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { rootsInUse } from '../gc/roots.ts';
import { type PageAddress, parsePageAddress } from '../storage/address.ts';
import { AddressSet } from '../storage/address-set.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import type { Storage } from '../storage/open.ts';
import { type ObjectKind, corruptMarkKey, corruptMarksPrefix, parseCorruptMarkKey, parseObjectKey } from '../storage/paths.ts';
import { scrub, type Scrubbed } from '../storage/scrub.ts';
import { findTouchedLayers } from '../storage/touched-layers.ts';
import { type LayerHolder, listHolders } from './holders.ts';
import { finishPass } from './pass-queries.ts';
import type { ScrubSummary } from './scrub-pass.entity.ts';

export interface ScrubStoreOptions {
  storage: Storage;
  fork: () => EntityManager;
  bytesPerSecond: number;
  /** Goes on behind this key, where an earlier pass was stopped. */
  after?: string | undefined;
  onProgress?: ((progress: ScrubProgress) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface ScrubProgress extends Omit<Scrubbed, 'damagedKeys'> {
  phase: 'read' | 'trace';
  /** The last object that was read. */
  key: string;
}

export interface ScrubReport extends Pick<Scrubbed, 'objects' | 'bytes'> {
  /** Layers that rows and jobs hold. */
  roots: number;
  /** By key; at most `maxFindings`. */
  findings: ScrubFinding[];
}

export interface ScrubFinding {
  /** Blob key: with a local store, the path of the file in its folder. */
  key: string;
  reason: string;
  /** Who needs the object; nobody, when it is waiting for garbage collection. */
  holders: LayerHolder[];
}

export const maxFindings = 1000;

export function summaryOf(findings: readonly ScrubFinding[]): ScrubSummary {
  const objects = (kind: ObjectKind) => findings.filter(({ key }) => parseObjectKey(key)?.kind === kind).length;
  const holders = findings.flatMap((finding) => finding.holders);
  const held = (kind: LayerHolder['kind']) => new Set(holders.filter((holder) => holder.kind === kind).map(({ id }) => id)).size;
  return {
    chunks: objects('chunks'),
    pages: objects('pages'),
    images: held('image'),
    snapshots: held('snapshot'),
    disks: held('disk'),
  };
}

/** @throws TransientError when store or database are away; signal.reason. */
export async function scrubStore(options: ScrubStoreOptions): Promise<ScrubReport> {
  const { storage, fork, signal } = options;
  const listed = new AddressSet();
  let last: ScrubProgress = { objects: 0, bytes: 0, damaged: 0, phase: 'read', key: options.after ?? '' };
  const { damagedKeys, ...read } = await scrub({
    ...storage,
    bytesPerSecond: options.bytesPerSecond,
    after: options.after,
    signal,
    onProgress({ objects, bytes, damaged, key }) {
      const object = parseObjectKey(key);
      if (object !== undefined) listed.add(object.address);
      last = { objects, bytes, damaged, key, phase: 'read' };
      options.onProgress?.(last);
    },
  });
  options.onProgress?.({ ...last, phase: 'trace' });
  // The marks hold what an earlier part of the pass has found, too, and what readers have met.
  const damaged = new Set([...damagedKeys, ...(await markedKeys(storage.blobs))]);
  const touched = await findTouchedLayers({
    ...storage,
    roots: inUse(fork()),
    damaged,
    wasListed: (address) => listed.has(address),
    maxObjects: maxFindings,
    signal,
  });
  const findings: ScrubFinding[] = [];
  for (const [key, roots] of touched.layers) {
    const holders = await listHolders(fork(), roots);
    // What was missed and nobody holds any more was deleted meanwhile, with its layer.
    if (holders.length === 0 && !damaged.has(key)) continue;
    findings.push({ key, reason: await reasonOf(storage.blobs, key), holders });
  }
  return { objects: read.objects, bytes: read.bytes, roots: touched.roots, findings };
}

export type ScrubNowOptions = Omit<ScrubStoreOptions, 'after'>;

/** What the command does: a pass over everything, which the schedule takes for its own. @throws as scrubStore. */
export async function scrubNow(options: ScrubNowOptions): Promise<ScrubReport> {
  const startedAt = performance.now();
  const report = await scrubStore(options);
  const summary = summaryOf(report.findings);
  await finishPass(options.fork(), { ...report, summary }, performance.now() - startedAt);
  return report;
}

async function* inUse(em: EntityManager): AsyncGenerator<PageAddress> {
  for (const { root } of await query<{ root: string }>(em, rootsInUse)) yield parsePageAddress(root);
}

async function markedKeys(blobs: BlobStore): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of blobs.list(corruptMarksPrefix)) {
    const object = parseCorruptMarkKey(key);
    if (object !== undefined) keys.push(object);
    if (keys.length >= maxFindings) break;
  }
  return keys;
}

const maxMarkBytes = 4096;

/** What the reader wrote down that met the damage. */
async function reasonOf(blobs: BlobStore, key: string): Promise<string> {
  if ((await blobs.stat(key)) === undefined) return 'it is missing';
  const mark = corruptMarkKey(key);
  const stat = await blobs.stat(mark);
  if (stat === undefined || stat.sizeBytes > maxMarkBytes) return 'it is damaged';
  try {
    const bytes = await blobs.get(mark, { offset: 0, length: stat.sizeBytes });
    const { reason } = JSON.parse(Buffer.from(bytes).toString('utf8')) as { reason?: unknown };
    return typeof reason === 'string' ? reason : 'it is damaged';
  } catch {
    return 'it is damaged';
  }
}
