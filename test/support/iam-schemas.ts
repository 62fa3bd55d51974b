import { AccessBindingSchema } from '../../src/iam/access-binding.entity.ts';
import { AuthorizedKeySchema } from '../../src/iam/authorized-key.entity.ts';
import { CloudSchema } from '../../src/iam/hierarchy/cloud.entity.ts';
import { FolderSchema } from '../../src/iam/hierarchy/folder.entity.ts';
import { InstallationSchema } from '../../src/iam/installation.entity.ts';
import { RevokedTokenSchema } from '../../src/iam/revoked-token.entity.ts';
import { ServerSecretSchema } from '../../src/iam/server-secret.entity.ts';
import { ServiceAccountSchema } from '../../src/iam/service-account.entity.ts';

/** The tables that bootstrap fills and tokens need, for unit tests without the whole service. */
export const iamSchemas = [
  AccessBindingSchema,
  AuthorizedKeySchema,
  CloudSchema,
  FolderSchema,
  InstallationSchema,
  RevokedTokenSchema,
  ServerSecretSchema,
  ServiceAccountSchema,
];
