// yandex.cloud.iam.v1.ServiceAccountService, whole: one file per method.
import { type Bindable, bindingMethods } from '../resources/bindable.ts';
import type { AccountParts } from './account-parts.ts';
import { createServiceAccount } from './create.ts';
import { deleteServiceAccount } from './delete.ts';
import { getServiceAccount } from './get.ts';
import { listServiceAccountOperations } from './list-operations.ts';
import { listServiceAccounts } from './list.ts';
import { lockAccount, requireAccount, resourceOf } from './require.ts';
import { reactivateServiceAccount, suspendServiceAccount } from './suspend.ts';
import { updateServiceAccount } from './update.ts';

const bindableAccount: Bindable = {
  permissions: 'iam.serviceAccounts',
  locate: async (em, id) => resourceOf(await requireAccount(em, id)),
  hold: (em, { id }) => lockAccount(em, id),
};

export const serviceAccountMethods = (parts: AccountParts) => {
  const { operations } = parts;
  return {
    get: getServiceAccount,
    list: listServiceAccounts,
    create: operations.idempotent(createServiceAccount(parts)),
    update: operations.idempotent(updateServiceAccount(parts)),
    delete: operations.idempotent(deleteServiceAccount(parts)),
    suspend: operations.idempotent(suspendServiceAccount(parts)),
    reactivate: operations.idempotent(reactivateServiceAccount(parts)),
    listOperations: listServiceAccountOperations,
    ...bindingMethods(bindableAccount, operations),
  };
};
