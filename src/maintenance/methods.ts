// obraz.v1.MaintenanceService: the operator's garbage collection and scrub through the running service.
import type {
  CollectGarbageRequest,
  DataHolder,
  GarbageProgress,
  ScrubProgress as ScrubProgressMessage,
  ScrubRequest,
} from '../../generated/obraz/v1/maintenance.ts';
import type { Collected } from '../storage/gc.ts';
import { authorizeOperator } from '../iam/authorize-operator.ts';
import type { StreamMethod } from '../iam/call.ts';
import { totalBytes } from '../scrub/total-bytes.ts';
import type { ScrubProgress, ScrubReport } from '../scrub/scrub-store.ts';
import type { Storage } from '../storage/open.ts';
import type { Maintenance } from './maintenance.ts';
import { streamProgress } from './stream-progress.ts';

export interface MaintenanceMethodParts {
  maintenance: Maintenance;
  storage: Storage;
}

export const maintenanceMethods = (parts: MaintenanceMethodParts) => ({
  collectGarbage: collectGarbage(parts),
  scrub: scrub(parts),
});

/** Bytes per second when the request names no rate. */
export const defaultScrubRate = 200 * 1024 ** 2;

const collectGarbage = ({ maintenance }: MaintenanceMethodParts): StreamMethod<CollectGarbageRequest, GarbageProgress> =>
  async function* ({ dryRun }, call) {
    await authorizeOperator(call, 'obraz.storage.collectGarbage');
    const collected = yield* streamProgress<GarbageProgress, Collected & { pending: number }>(
      (tell, signal) =>
        maintenance.collectNow({
          dryRun,
          signal,
          onProgress: ({ phase, ...progress }) => tell(toGarbageProgress({ ...progress, pending: 0 }, { phase, done: false })),
        }),
      call.signal,
    );
    yield toGarbageProgress(collected, { phase: 'done', done: true });
  };

const toGarbageProgress = (
  collected: Collected & { pending: number },
  { phase, done }: { phase: string; done: boolean },
): GarbageProgress => ({
  done,
  phase,
  roots: BigInt(collected.roots),
  reachableObjects: BigInt(collected.reachable),
  missingObjects: BigInt(collected.missing),
  storedObjects: BigInt(collected.stored),
  storedBytes: BigInt(collected.storedBytes),
  condemnedObjects: BigInt(collected.condemned),
  condemnedBytes: BigInt(collected.condemnedBytes),
  deletedObjects: BigInt(collected.deleted),
  pendingObjects: BigInt(collected.pending),
});

const scrub = ({ maintenance, storage }: MaintenanceMethodParts): StreamMethod<ScrubRequest, ScrubProgressMessage> =>
  async function* ({ bytesPerSecond }, call) {
    await authorizeOperator(call, 'obraz.storage.scrub');
    const bytesTotal = BigInt(await totalBytes(storage.blobs, call.signal));
    const toMessage = ({ objects, bytes, damaged }: Pick<ScrubProgress, 'objects' | 'bytes' | 'damaged'>) => ({
      done: false,
      objects: BigInt(objects),
      bytes: BigInt(bytes),
      bytesTotal,
      damagedObjects: BigInt(damaged),
      findings: [],
    });
    const report = yield* streamProgress<ScrubProgressMessage, ScrubReport>(
      (tell, signal) =>
        maintenance.scrubNow({
          bytesPerSecond: Number(bytesPerSecond) || defaultScrubRate,
          signal,
          onProgress: (progress) => tell(toMessage(progress)),
        }),
      call.signal,
    );
    const last = toMessage({ ...report, damaged: report.findings.length });
    for (const { key, reason, holders } of report.findings)
      for (const part of inParts(holders)) yield { ...last, findings: [{ key, reason, holders: part }] };
    yield { ...last, done: true };
  };

/** Holders in one message: far below the size that a message may have. */
const holdersAtOnce = 5_000;

function* inParts(holders: readonly DataHolder[]): Generator<DataHolder[]> {
  for (let at = 0; at === 0 || at < holders.length; at += holdersAtOnce) yield holders.slice(at, at + holdersAtOnce);
}
