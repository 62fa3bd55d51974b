// What listens: gRPC with and without TLS, and HTTP. Which service is made of which parts is read off `services`.
import type { EntityManager } from '@mikro-orm/postgresql';
import { AttachServiceService } from '../generated/obraz/v1/attach.ts';
import { AuditServiceService } from '../generated/obraz/v1/audit.ts';
import { MaintenanceServiceService } from '../generated/obraz/v1/maintenance.ts';
import { ProgressServiceService } from '../generated/obraz/v1/progress.ts';
import { QuotaAdminServiceService } from '../generated/obraz/v1/quota_admin.ts';
import { DiskServiceService } from '../generated/yandex/cloud/compute/v1/disk_service.ts';
import { DiskTypeServiceService } from '../generated/yandex/cloud/compute/v1/disk_type_service.ts';
import { ImageServiceService } from '../generated/yandex/cloud/compute/v1/image_service.ts';
import { SnapshotScheduleServiceService } from '../generated/yandex/cloud/compute/v1/snapshot_schedule_service.ts';
import { SnapshotServiceService } from '../generated/yandex/cloud/compute/v1/snapshot_service.ts';
import { ZoneServiceService } from '../generated/yandex/cloud/compute/v1/zone_service.ts';
import { ApiEndpointServiceService } from '../generated/yandex/cloud/endpoint/api_endpoint_service.ts';
import { IamTokenServiceService } from '../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import { KeyServiceService } from '../generated/yandex/cloud/iam/v1/key_service.ts';
import { ServiceAccountServiceService } from '../generated/yandex/cloud/iam/v1/service_account_service.ts';
import { OperationServiceService } from '../generated/yandex/cloud/operation/operation_service.ts';
import { QuotaLimitServiceService } from '../generated/yandex/cloud/quotamanager/v1/quota_limit_service.ts';
import { CloudServiceService } from '../generated/yandex/cloud/resourcemanager/v1/cloud_service.ts';
import { FolderServiceService } from '../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import type { Audit } from './audit/audit.ts';
import { auditMethods } from './audit/methods.ts';
import { attachMethods } from './attach/methods.ts';
import { keyMethods } from './authorized-keys/methods.ts';
import type { Certificates } from './certificates.ts';
import type { Config } from './config.ts';
import { diskTypeMethods, zoneMethods } from './catalog/methods.ts';
import type { DiskContents } from './disks/disk-contents.ts';
import { Disk } from './disks/disk.entity.ts';
import { diskMethods } from './disks/methods.ts';
import { apiEndpointMethods } from './endpoints/api-endpoint-methods.ts';
import { cloudMethods, folderMethods } from './folders/methods.ts';
import type { AccessRules } from './iam/access-control.ts';
import { Authenticator } from './iam/authenticator.ts';
import type { ExternalTokens } from './iam/external/external-tokens.ts';
import { iamTokenMethods } from './iam/iam-token-service/iam-token-methods.ts';
import type { TokenAuthority } from './iam/tokens.ts';
import { startHttpServer } from './http/server.ts';
import { latestImages } from './images/find-latest.ts';
import { Image } from './images/image.entity.ts';
import { imageMethods } from './images/methods.ts';
import { maintenanceMethods } from './maintenance/methods.ts';
import type { Maintenance } from './maintenance/maintenance.ts';
import { Operation } from './operations/operation.entity.ts';
import { operationMethods } from './operations/operation-service.ts';
import type { Operations } from './operations/operations.ts';
import { progressMethods } from './operations/progress-service.ts';
import { coalesce } from './platform/coalesce.ts';
import { unauthenticated } from './platform/errors.ts';
import type { Log } from './platform/log.ts';
import type { Metrics } from './platform/metrics.ts';
import { serviceAccountMethods } from './service-accounts/methods.ts';
import { snapshotMethods } from './snapshots/methods.ts';
import { Snapshot } from './snapshots/snapshot.entity.ts';
import { quotaLimitMethods } from './quotas/methods.ts';
import { quotaAdminMethods } from './quotas/set-limit.ts';
import { quotas } from './quotas.ts';
import type { UrlPolicy } from './sources/url-policy.ts';
import type { Storage } from './storage/open.ts';
import type { Descriptors } from './transport/descriptors.ts';
import { implement, type ServiceParts } from './transport/implement.ts';
import type { RateLimits } from './transport/rate-limits.ts';
import { createRequestMetrics } from './transport/request-metrics.ts';
import { startGrpcServer } from './transport/server.ts';
import type { Service } from './transport/service.ts';
import { withStandardServices } from './transport/standard-services.ts';
import { createValidator } from './transport/validation.ts';

export interface ServerParts {
  config: Config;
  log: Log;
  metrics: Metrics;
  fork: () => EntityManager;
  authority: TokenAuthority;
  /** Where users have an identity provider. */
  external: ExternalTokens | undefined;
  access: AccessRules;
  operations: Operations;
  urlPolicy: UrlPolicy;
  contents: DiskContents;
  storage: Storage;
  maintenance: Maintenance;
  audit: Audit;
  /** The same as block access has. */
  limits: RateLimits;
  descriptors: Descriptors;
  /** NBD URIs that open an export of this process. */
  exportUris: (exportName: string) => string[];
  certificates: Certificates;
}

/** Methods that need no token: clients call them before they have one. */
const openMethods = new Set([
  'yandex.cloud.endpoint.ApiEndpointService/Get',
  'yandex.cloud.endpoint.ApiEndpointService/List',
  'yandex.cloud.iam.v1.IamTokenService/Create',
]);

/** An open method whose request is the proof of who calls. */
const provingMethods = new Set(['yandex.cloud.iam.v1.IamTokenService/Create']);

/** As long as it takes to read all that is stored. */
const longWork = new Set(['obraz.v1.MaintenanceService/CollectGarbage', 'obraz.v1.MaintenanceService/Scrub']);

/** @throws DomainError UNAUTHENTICATED. */
function required(token: string | undefined): string {
  if (token === undefined) throw unauthenticated();
  return token;
}

/** Reads rows by id for the hot path: those of one moment in one query, through entities. */
const byId = <Entity extends { id: string }>(load: (ids: string[]) => Promise<Entity[]>) =>
  coalesce<string, Entity>(async (ids) => new Map((await load(ids)).map((row) => [row.id, row])), { maxBatch: 500 });

/** Rows for reading only: nobody tracks their changes. */
const untracked = { disableIdentityMap: true } as const;

function services(server: ServerParts, parts: ServiceParts, authenticator: Authenticator): Service[] {
  const { config, fork, authority, operations, urlPolicy, contents, storage, maintenance } = server;
  const { layers } = storage;
  const findOperation = byId((ids) => fork().find(Operation, { id: { $in: ids } }, untracked));
  const findImage = byId((ids) => fork().find(Image, { id: { $in: ids } }, untracked));
  const findDisk = byId((ids) => fork().find(Disk, { id: { $in: ids } }, untracked));
  const findSnapshot = byId((ids) => fork().find(Snapshot, { id: { $in: ids } }, untracked));
  return [
    implement(
      ImageServiceService,
      imageMethods({ operations, findImage, findLatestImage: latestImages(fork), urlPolicy, contents, layers }),
      parts,
    ),
    implement(DiskServiceService, diskMethods({ operations, findDisk, contents }), parts),
    implement(SnapshotServiceService, snapshotMethods({ operations, findSnapshot, contents, layers }), parts),
    implement(DiskTypeServiceService, diskTypeMethods(), parts),
    implement(ZoneServiceService, zoneMethods(), parts),
    implement(OperationServiceService, operationMethods({ operations, findOperation }), parts),
    implement(ProgressServiceService, progressMethods({ findOperation }), parts),
    implement(AttachServiceService, attachMethods({ authority, authenticator, uris: server.exportUris }), parts),
    implement(IamTokenServiceService, iamTokenMethods({ authority, external: server.external, limits: parts.limits }), parts),
    implement(ApiEndpointServiceService, apiEndpointMethods({ publicAddress: config.publicAddress }), parts),
    implement(FolderServiceService, folderMethods({ operations }), parts),
    implement(CloudServiceService, cloudMethods({ operations }), parts),
    implement(ServiceAccountServiceService, serviceAccountMethods({ operations, authority }), parts),
    implement(KeyServiceService, keyMethods({ operations }), parts),
    // Not there yet: every method answers UNIMPLEMENTED.
    implement(SnapshotScheduleServiceService, {}, parts),
    implement(QuotaLimitServiceService, quotaLimitMethods(quotas), parts),
    implement(QuotaAdminServiceService, quotaAdminMethods(quotas), parts),
    implement(MaintenanceServiceService, maintenanceMethods({ maintenance, storage }), parts),
    implement(AuditServiceService, auditMethods({ fork }), parts),
  ];
}

export interface Servers extends AsyncDisposable {
  readonly addresses: { grpc: string | undefined; tls: string | undefined; http: string };
  /** Health says SERVING from now on. */
  setReady(): void;
}

export async function startServers(server: ServerParts): Promise<Servers> {
  const { config, log, authority, certificates, descriptors, limits } = server;
  const authenticator = new Authenticator(authority, server.external);
  const parts: ServiceParts = {
    authenticate(token, { peer }) {
      const known = token === undefined ? undefined : authenticator.remembered(token);
      return known ?? limits.attempt(peer, async () => authenticator.verify(required(token)), token);
    },
    forkEm: server.fork,
    access: server.access,
    validator: createValidator(descriptors),
    log,
    metrics: createRequestMetrics(server.metrics, descriptors),
    openMethods,
    provingMethods,
    longWork,
    limits,
    audit: server.audit,
  };
  const { services: hosted, health } = withStandardServices(descriptors, services(server, parts, authenticator), limits);
  await using undo = new AsyncDisposableStack();
  let ready = false;
  const http = undo.use(
    await startHttpServer({
      address: config.httpAddress,
      log,
      renderMetrics: () => server.metrics.render(),
      isReady: () => ready,
    }),
  );
  // A process without the api role has health and metrics alone.
  const grpc = config.roles.has('api')
    ? undo.use(
        await startGrpcServer({
          services: hosted,
          plaintextAddress: config.grpcAddress,
          tls: { address: config.tlsAddress, ...certificates.current },
          log,
        }),
      )
    : undefined;
  const before = certificates.onRenewed;
  certificates.onRenewed = (certificate) => {
    before(certificate);
    grpc?.replaceCertificate(certificate);
  };
  const stack = undo.move();
  return {
    addresses: { grpc: grpc?.plaintextAddress, tls: grpc?.tlsAddress, http: http.address },
    setReady() {
      ready = true;
      health.setServing(true);
    },
    async [Symbol.asyncDispose]() {
      ready = false;
      health.setServing(false);
      await stack.disposeAsync();
    },
  };
}
