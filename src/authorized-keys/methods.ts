// yandex.cloud.iam.v1.KeyService, whole: one file per method. Keys are written as PEM, the one format there is.
import { createKey } from './create.ts';
import { deleteKey } from './delete.ts';
import { getKey } from './get.ts';
import type { KeyParts } from './key-parts.ts';
import { listKeyOperations } from './list-operations.ts';
import { listKeys } from './list.ts';
import { updateKey } from './update.ts';

export const keyMethods = (parts: KeyParts) => {
  const { operations } = parts;
  return {
    get: getKey,
    list: listKeys,
    create: createKey,
    update: operations.idempotent(updateKey(parts)),
    delete: operations.idempotent(deleteKey(parts)),
    listOperations: listKeyOperations,
  };
};
