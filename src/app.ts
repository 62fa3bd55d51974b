// The composition root: the only file that knows every part. Parts are created in the order in which they need each other, and
// disposed of in the reverse: calls end first, then jobs are given back, PostgreSQL stops last.
import { mkdir, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { attachedContents } from './attach/disk-contents.ts';
import { writeEvents } from './audit/file-sink.ts';
import { keepEventsFor } from './audit/retention.ts';
import { createServiceAudit } from './audit/service-audit.ts';
import { type BlockAccess, commitKindLabel, startBlockAccess } from './block-access.ts';
import { openCertificates } from './certificates.ts';
import type { Config } from './config.ts';
import { openDatabase } from './database.ts';
import { Admissions } from './gc/admission.ts';
import { AccessControl } from './iam/access-control.ts';
import { ensureAdminKey } from './iam/admin-key.ts';
import { keepAdminToken } from './iam/admin-token.ts';
import { ExternalTokens } from './iam/external/external-tokens.ts';
import { TokenAuthority } from './iam/tokens.ts';
import { imageResource } from './images/image-resource.ts';
import { ChunkPool } from './images/import/chunk-pool.ts';
import { importJobKind } from './images/import/import-payload.ts';
import { importJob } from './images/import/import.job.ts';
import { readAuthorities, readImportRules, readProxyRules } from './import-settings.ts';
import { poolJobKind } from './images/pool-payload.ts';
import { poolJob } from './images/pool.job.ts';
import { Maintenance } from './maintenance/maintenance.ts';
import { keepHistoryShort } from './operations/history.ts';
import { JobBell } from './operations/job-bell.ts';
import type { JobHandler } from './operations/job-handler.ts';
import type { JobMetrics } from './operations/runner-parts.ts';
import { createJobMetrics } from './operations/job-metrics.ts';
import { Operations } from './operations/operations.ts';
import { reserveRunning } from './operations/running-operations-quota.ts';
import { Runner } from './operations/runner.ts';
import { openDataFolder } from './platform/data-folder.ts';
import { createLog, type Log } from './platform/log.ts';
import { Metrics } from './platform/metrics.ts';
import { replaceFile } from './platform/replace-file.ts';
import { deleteJob } from './resources/delete.job.ts';
import { type Servers, startServers } from './servers.ts';
import { snapshotResource } from './snapshots/snapshot-resource.ts';
import { UrlPolicy } from './sources/url-policy.ts';
import type { OnCorrupt } from './storage/damage.ts';
import { openStore } from './store.ts';
import { loadDescriptors } from './transport/descriptors.ts';
import { methodJson } from './transport/message-json.ts';
import { RateLimits } from './transport/rate-limits.ts';

export interface App extends AsyncDisposable {
  readonly dataDirectory: string;
  readonly folderId: string;
  readonly addresses: Servers['addresses'] & BlockAccess['addresses'];
  /** Resolves when a part that the service cannot live without has ended by itself. */
  readonly failed: Promise<Error>;
}

/** @throws StartError for what an operator can mend. When it throws, or `signal` aborts it, nothing is left running. */
export async function startApp(config: Config, signal: AbortSignal): Promise<App> {
  await using undo = new AsyncDisposableStack();
  const log = createLog({ level: config.logLevel });
  const metrics = new Metrics();
  metrics.collectProcess();
  const folder = undo.use(await openDataFolder(config.dataDirectory));
  const file = (name: string): string => path.join(folder.path, name);
  const urlPolicy = new UrlPolicy(readImportRules(config));
  const proxies = readProxyRules(config);
  const certificateAuthorities = await readAuthorities(config);

  const database = undo.use(await openDatabase(config, folder.path, log, signal));
  const storage = undo.use(await openStore(config, database, file('blobs'), reportCorruption(log, metrics)));
  const { fork, ids } = database;

  const userGroups = config.oidc && [`group:organization:${ids.organizationId}:users`];
  const authority = undo.use(await TokenAuthority.open({ forkEm: fork, userGroups, log }));
  const external = config.oidc && new ExternalTokens({ ...config.oidc, groups: userGroups ?? [], log });
  const access = new AccessControl({ fork });
  await ensureAdminKey(fork(), ids.serviceAccountId, file('admin-key.json'));
  undo.use(await keepAdminToken({ authority, serviceAccountId: ids.serviceAccountId, file: file('admin.token'), log }));
  signal.throwIfAborted();

  const descriptors = loadDescriptors();
  if (config.audit.file !== undefined) {
    const sink = { fork, target: config.audit.file, cursorFile: file('audit-cursor.json'), log };
    undo.use(untilDisposed((ended) => writeEvents(sink, ended)));
  }
  // Before the sink at the end: it gets the last ones, too.
  const { audit, attachments } = undo.use(
    createServiceAudit({
      fork,
      metrics,
      log,
      methodJson: methodJson(descriptors),
      tokenIdOf: (subject) => authority.tokenIdOf(subject),
    }),
  );
  const certificates = undo.use(await openCertificates(config, fork(), file('ca.pem'), log));
  const bell = new JobBell(fork);
  const maintenance = undo.use(new Maintenance({ url: database.url, fork, storage, log, metrics }));
  const operations = new Operations({ bell, fork, reserveRunning, keyWindowMs: config.keepIdempotencyKeysMs });
  // Disks are never CREATING: their deletes take no job.
  const deleteJobs = [deleteJob(imageResource, operations), deleteJob(snapshotResource, operations)];
  const jobKinds = [importJobKind, poolJobKind, ...deleteJobs.map(({ kind }) => kind), commitKindLabel];
  const jobMetrics = heardOf(createJobMetrics(metrics, jobKinds), maintenance);
  let warmUp = (): void => {};
  if (config.roles.has('worker')) {
    const spoolDirectory = await emptyFolder(file('spool'));
    const threads = config.import.threads ?? Math.min(availableParallelism(), 8);
    const pool = undo.use(new ChunkPool({ threads, storage, log }));
    warmUp = () => pool.warmUp();
    const admissions = new Admissions({ fork });
    const admission: Admissions['of'] = (writer) => admissions.of(writer);
    const importParts = {
      fork,
      storage,
      pool,
      admission,
      urlPolicy,
      certificateAuthorities,
      proxies,
      spoolDirectory,
      log,
      checkpointIntervalMs: 2_000,
    };
    maintenance.start(config);
    undo.use(bell.subscribe({ onFreed: () => maintenance.freed() }));
    // Two runners: a delete does not wait behind imports.
    for (const [jobHandlers, concurrency, listenUrl] of [
      [[importJob(importParts), poolJob(storage)], config.jobConcurrency, database.url],
      [deleteJobs, 8, undefined],
    ] as [JobHandler[], number, string | undefined][]) {
      const listening = listenUrl === undefined ? {} : { listenUrl };
      undo
        .use(new Runner({ fork, bell, access, handlers: jobHandlers, concurrency, log, metrics: jobMetrics, ...listening }))
        .start();
    }
    const onError = (error: unknown): void => log.warn({ err: error }, 'old operations could not be removed');
    const { keepOperationsMs, keepIdempotencyKeysMs: keepKeysMs } = config;
    undo.use(untilDisposed((ended) => keepHistoryShort(fork, ended, { keepOperationsMs, keepKeysMs, onError })));
    const keepMs = config.audit.keepDays * 24 * 60 * 60 * 1000;
    undo.use(untilDisposed((ended) => keepEventsFor(keepMs, { fork, log }, ended)));
  }
  const limits = new RateLimits(config.rates, metrics);
  const blockParts = {
    config,
    ids,
    fork,
    storage,
    authority,
    access,
    certificates,
    bell,
    operations,
    jobMetrics,
    metrics,
    audit: attachments,
    limits,
    log,
  };
  const blockAccess =
    config.roles.has('nbd') || config.roles.has('worker')
      ? undo.use(await startBlockAccess({ ...blockParts, dataFolder: folder.path, databaseUrl: database.url }))
      : undefined;
  const servers = undo.use(
    await startServers({
      config,
      log,
      metrics,
      fork,
      authority,
      external,
      access,
      operations,
      urlPolicy,
      certificates,
      contents: attachedContents,
      exportUris: (name) => blockAccess?.uris(name) ?? [],
      storage,
      maintenance,
      audit,
      limits,
      descriptors,
    }),
  );
  const addresses = { nbd: undefined, nbd_socket: undefined, ...blockAccess?.addresses, ...servers.addresses };
  const bootstrap = {
    cloud_id: ids.cloudId,
    folder_id: ids.folderId,
    service_account_id: ids.serviceAccountId,
    addresses,
  };
  await replaceFile(file('bootstrap.json'), `${JSON.stringify(bootstrap, undefined, 2)}\n`, 0o644);
  servers.setReady();
  warmUp();

  const stack = undo.move();
  return {
    dataDirectory: folder.path,
    folderId: ids.folderId,
    addresses,
    failed: database.failed,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** What was given up has left bytes behind. */
const heardOf = (metrics: JobMetrics, maintenance: Maintenance): JobMetrics => ({
  ...metrics,
  left(kind, outcome, durationMs) {
    metrics.left?.(kind, outcome, durationMs);
    if (outcome === 'failed' || outcome === 'cancelled') maintenance.freed();
    else if (kind === commitKindLabel && outcome === 'done') maintenance.replaced();
  },
});

/** Damaged data is never served; that it was met must not go unnoticed. */
function reportCorruption(log: Log, metrics: Metrics): OnCorrupt {
  const found = metrics.counter({
    name: 'obraz_corrupt_objects_total',
    help: 'Stored objects that a read found damaged or missing.',
    labels: { kind: ['chunks', 'pages'] },
  });
  return (finding) => {
    found.with({ kind: finding.kind }).inc();
    log.error({ ...finding }, 'stored data is damaged');
  };
}

/** What an earlier run left in it is of no use: its imports begin anew. */
async function emptyFolder(directory: string): Promise<string> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { mode: 0o700 });
  return directory;
}

function untilDisposed(loop: (signal: AbortSignal) => Promise<void>): AsyncDisposable {
  const stop = new AbortController();
  const running = loop(stop.signal);
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}
