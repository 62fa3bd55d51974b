import {
  ServiceAccount as ServiceAccountMessage,
  ServiceAccount_Status,
} from '../../generated/yandex/cloud/iam/v1/service_account.ts';
import { statusAt } from '../iam/active-account.ts';
import type { ServiceAccount } from '../iam/service-account.entity.ts';
import { type PackedMessage, pack } from '../operations/pack.ts';

export const toServiceAccountMessage = (account: ServiceAccount): ServiceAccountMessage => ({
  id: account.id,
  folderId: account.folderId,
  createdAt: account.createdAt,
  name: account.name,
  description: account.description,
  labels: account.labels,
  lastAuthenticatedAt: account.lastAuthenticatedAt ?? undefined,
  status: ServiceAccount_Status[statusAt(account, new Date())],
  expiresAt: account.expiresAt ?? undefined,
});

/** The account as an operation's response. */
export const packServiceAccount = (account: ServiceAccount): PackedMessage =>
  pack(ServiceAccountMessage, toServiceAccountMessage(account));
