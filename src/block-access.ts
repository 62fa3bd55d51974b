// Block access, put together: what is open, what moves disks towards their bases, the runner of this machine's commits, and the NBD server on
// its addresses. A process without the nbd role opens nothing, but commits what its machine holds.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { EntityManager } from '@mikro-orm/postgresql';
import type { AttachAudit } from './audit/attach-audit.ts';
import { Attachments } from './attach/attachments.ts';
import { captureTargets } from './attach/capture-targets.ts';
import { commitJob } from './attach/commit.job.ts';
import { exportProvider } from './attach/export-provider.ts';
import { GenerationFiles } from './attach/generation-files.ts';
import { readMachineId } from './attach/machine-id.ts';
import { removeSessionsOfMachine } from './attach/session-queries.ts';
import { Settlement } from './attach/settlement.ts';
import type { Certificates } from './certificates.ts';
import type { Config } from './config.ts';
import { Admissions } from './gc/admission.ts';
import type { BootstrapIds } from './iam/bootstrap.ts';
import type { AccessRules } from './iam/access-control.ts';
import type { TokenAuthority } from './iam/tokens.ts';
import { type NbdServer, startNbdServer } from './nbd/server.ts';
import { observeNbdServer } from './nbd/server-metrics.ts';
import type { NbdTlsCredentials } from './nbd/start-tls.ts';
import type { JobBell } from './operations/job-bell.ts';
import type { Operations } from './operations/operations.ts';
import { Runner } from './operations/runner.ts';
import type { JobMetrics } from './operations/runner-parts.ts';
import type { Log } from './platform/log.ts';
import type { Metrics } from './platform/metrics.ts';
import { StartError } from './platform/start-error.ts';
import { Turns } from './platform/turns.ts';
import type { Storage } from './storage/open.ts';
import type { RateLimits } from './transport/rate-limits.ts';

export interface BlockAccessParts {
  config: Config;
  dataFolder: string;
  databaseUrl: string;
  ids: BootstrapIds;
  fork: () => EntityManager;
  storage: Storage;
  authority: TokenAuthority;
  access: AccessRules;
  certificates: Certificates;
  bell: JobBell;
  operations: Operations;
  jobMetrics: JobMetrics;
  metrics: Metrics;
  /** Of what is opened for writing. */
  audit: AttachAudit;
  limits: RateLimits;
  log: Log;
}

export interface BlockAccess extends AsyncDisposable {
  readonly addresses: { nbd: string | undefined; nbd_socket: string | undefined };
  /** NBD URIs of an export, the local socket's first. */
  uris(exportName: string): string[];
}

/** The label of its jobs in metrics: the kind itself names the machine. */
export const commitKindLabel = 'disk.commit';
/** Captures among them, which seal at once only when there is a place for them. */
const commitsAtOnce = 8;
/** Of macOS, which has the shorter ones. */
const maxSocketPathBytes = 103;

/** @throws StartError when an address cannot be listened on, or the authority of its clients cannot be read. */
export async function startBlockAccess(parts: BlockAccessParts): Promise<BlockAccess> {
  const { config, dataFolder, ids, fork, storage, access, bell, operations, log, audit } = parts;
  const machineId = await readMachineId(path.join(dataFolder, 'machine-id'));
  // The processes that had them are dead: this one holds the folder's lock.
  await fork().transactional(async (em) => audit.detached(em, await removeSessionsOfMachine(em, machineId)));
  const files = await GenerationFiles.open(dataFolder, ids.cloudId);
  await using undo = new AsyncDisposableStack();
  const turns = new Turns();
  let settlement: Settlement | undefined;
  const attachments = undo.use(
    new Attachments({
      fork,
      access,
      storage,
      files,
      machineId,
      turns,
      log,
      audit,
      admitChange: (subjectId) => parts.limits.admitChange(subjectId, ''),
      onSealed: () => settlement?.soon(),
    }),
  );
  const { isWriting } = attachments;
  const shared = { fork, files, machineId, isWriting, log, audit, attachments, turns };
  settlement = undo.use(new Settlement({ ...shared, operations, bell, subjectId: ids.serviceAccountId }));
  const admissions = new Admissions({ fork });
  const handler = commitJob({
    ...shared,
    storage,
    admission: (writer) => admissions.of(writer),
    targets: captureTargets(fork, storage),
    commitTurns: new Turns(),
    onCommitting: settlement.committing,
  });
  const runner = new Runner({
    fork,
    bell,
    access,
    handlers: [handler],
    concurrency: commitsAtOnce,
    log,
    metrics: labelled(parts.jobMetrics),
    // One connection that listens is enough for a process: with the worker role there is one.
    ...(config.roles.has('worker') ? {} : { listenUrl: parts.databaseUrl }),
  });
  undo.use(runner).start();
  observe(parts.metrics, attachments);
  const server = config.roles.has('nbd') ? undo.use(await startServer(parts, attachments)) : undefined;
  const socket = server?.addresses.find((address) => address.includes('/'));
  const nbd = server?.addresses.at(-1);
  const hasTls = config.nbd.clientAuthorityFile !== undefined;
  const stack = undo.move();
  return {
    addresses: { nbd, nbd_socket: socket },
    uris: (exportName) => [
      ...(socket === undefined ? [] : [`nbd+unix:///${exportName}?socket=${encodeURIComponent(socket).replaceAll('%2F', '/')}`]),
      ...(nbd === undefined ? [] : [`${hasTls ? 'nbds' : 'nbd'}://${nbd}/${exportName}`]),
    ],
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

async function startServer(parts: BlockAccessParts, attachments: Attachments): Promise<NbdServer> {
  const { config, dataFolder, ids, fork, access, authority, certificates, metrics, log } = parts;
  const { address, clientAuthorityFile } = config.nbd;
  const clientAuthority = await readAuthority(clientAuthorityFile);
  const credentials = ({ certificate, key }: Certificates['current']): NbdTlsCredentials => ({
    certificate,
    key,
    ...(clientAuthority === undefined ? {} : { clientAuthority }),
  });
  const socket = path.join(dataFolder, 'nbd.sock');
  const hasSocket = Buffer.byteLength(socket) <= maxSocketPathBytes;
  if (!hasSocket) log.warn({ socket }, 'the path is too long for a socket: block access is over TCP alone');
  const server = await startNbdServer({
    endpoints: [
      ...(hasSocket ? [{ address: socket, tls: 'off' } as const] : []),
      { address, tls: clientAuthority === undefined ? 'off' : 'required' },
    ],
    provider: exportProvider({
      fork,
      access,
      attachments,
      keys: authority,
      adminId: ids.serviceAccountId,
      attempt: (peer, check) => parts.limits.attempt(peer, check),
    }),
    tls: credentials(certificates.current),
    onError: (error) => log.error({ err: error }, 'an NBD export failed'),
    onOpened: ({ id, peer }) => log.info({ connection: id, peer: peer.remoteAddress }, 'an export was opened'),
    onClosed: ({ id, peer }, reason) => log.info({ connection: id, peer: peer.remoteAddress, reason }, 'an export was closed'),
  });
  const before = certificates.onRenewed;
  certificates.onRenewed = (certificate) => {
    before(certificate);
    server.replaceTls(credentials(certificate));
  };
  observeNbdServer(metrics, server);
  return server;
}

async function readAuthority(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new StartError(`OBRAZ_NBD_CLIENT_CA_FILE: ${(error as Error).message}`, { cause: error });
  }
}

function observe(metrics: Metrics, attachments: Attachments): void {
  metrics.observedGauge(
    { name: 'obraz_attach_sessions', help: 'Disks, images and snapshots that are open here.' },
    () => attachments.count,
  );
  const { indexBudget } = attachments;
  metrics.observedGauge(
    { name: 'obraz_attach_index_bytes', help: 'Memory of the indexes of what was written and is not committed.' },
    () => indexBudget.usedBytes,
  );
  metrics.observedGauge(
    { name: 'obraz_attach_waiting_writes', help: 'Writes that wait until what was written before is committed.' },
    () => indexBudget.waiting,
  );
}

const labelled = (metrics: JobMetrics): JobMetrics => ({
  claimed: (_kind, waitedMs) => metrics.claimed?.(commitKindLabel, waitedMs),
  started: () => metrics.started?.(commitKindLabel),
  left: (_kind, outcome, durationMs) => metrics.left?.(commitKindLabel, outcome, durationMs),
});
