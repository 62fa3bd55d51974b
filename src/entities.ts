// Every entity of the service: what is in the database is read off this list. (src/db knows no resource, so the list stands here.)
import { AttachSessionSchema } from './attach/attach-session.entity.ts';
import { DiskGenerationSchema } from './attach/disk-generation.entity.ts';
import { AuditEventSchema } from './audit/audit-event.entity.ts';
import { DiskSchema } from './disks/disk.entity.ts';
import { CondemnedObjectSchema } from './gc/condemned-object.entity.ts';
import { AccessBindingSchema } from './iam/access-binding.entity.ts';
import { AuthorizedKeySchema } from './iam/authorized-key.entity.ts';
import { CloudSchema } from './iam/hierarchy/cloud.entity.ts';
import { FolderSchema } from './iam/hierarchy/folder.entity.ts';
import { InstallationSchema } from './iam/installation.entity.ts';
import { RevokedTokenSchema } from './iam/revoked-token.entity.ts';
import { ServerSecretSchema } from './iam/server-secret.entity.ts';
import { ServiceAccountSchema } from './iam/service-account.entity.ts';
import { ImageSchema } from './images/image.entity.ts';
import { IdempotencyKeySchema } from './operations/idempotency-key.entity.ts';
import { JobSchema } from './operations/job.entity.ts';
import { OperationSchema } from './operations/operation.entity.ts';
import { QuotaLimitSchema } from './quotas/quota-limit.entity.ts';
import { ScrubPassSchema } from './scrub/scrub-pass.entity.ts';
import { SnapshotSchema } from './snapshots/snapshot.entity.ts';

export const entities = [
  CloudSchema,
  FolderSchema,
  ServiceAccountSchema,
  AuthorizedKeySchema,
  AccessBindingSchema,
  RevokedTokenSchema,
  ServerSecretSchema,
  InstallationSchema,
  OperationSchema,
  JobSchema,
  IdempotencyKeySchema,
  ImageSchema,
  DiskSchema,
  SnapshotSchema,
  CondemnedObjectSchema,
  AttachSessionSchema,
  DiskGenerationSchema,
  QuotaLimitSchema,
  ScrubPassSchema,
  AuditEventSchema,
];
