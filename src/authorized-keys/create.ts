// Create key: no operation, since the private half is shown in the answer alone and nothing keeps it. So a call whose answer was lost has
// left a key that nobody can use; it counts until it is deleted.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { CreateKeyRequest, CreateKeyResponse } from '../../generated/yandex/cloud/iam/v1/key_service.ts';
import { AuthorizedKey } from '../iam/authorized-key.entity.ts';
import type { Method } from '../iam/call.ts';
import { makeKeyPair } from '../iam/key-pair.ts';
import type { ServiceAccount } from '../iam/service-account.entity.ts';
import { DomainError } from '../platform/errors.ts';
import { newId } from '../platform/ids.ts';
import { lockAccount } from '../service-accounts/require.ts';
import { fromAlgorithmMessage, toKeyMessage } from './key.mapper.ts';
import { requireOwner } from './require.ts';

/** Enough to have one per user of the account, and to replace them one by one. */
export const maxKeysPerAccount = 10;

export const createKey: Method<CreateKeyRequest, CreateKeyResponse> = async (request, call) => {
  const owner = await requireOwner(call, request.serviceAccountId, 'iam.keys.create');
  const keyAlgorithm = fromAlgorithmMessage(request.keyAlgorithm);
  // Also before the work: who has too many costs little.
  await assertRoom(call.em, owner);
  const { publicKey, privateKey } = await makeKeyPair(keyAlgorithm, call.signal);
  const key = await call.em.fork().transactional(async (em) => {
    const account = await lockAccount(em, owner.id);
    await assertRoom(em, account);
    const { id: serviceAccountId, folderId } = account;
    const made = em.create(AuthorizedKey, {
      id: newId('key'),
      serviceAccountId,
      createdAt: new Date(),
      description: request.description,
      keyAlgorithm,
      publicKey,
    });
    await call.audit?.record(em, {
      status: 'DONE',
      folderId,
      resourceId: made.id,
      details: { keyId: made.id, serviceAccountId },
    });
    return made;
  });
  return { key: toKeyMessage(key), privateKey };
};

async function assertRoom(em: EntityManager, { id }: ServiceAccount): Promise<void> {
  const count = await em.count(AuthorizedKey, { serviceAccountId: id });
  if (count >= maxKeysPerAccount) {
    throw new DomainError(
      'RESOURCE_EXHAUSTED',
      `Service account ${id} has ${count} keys, as many as it can have: delete one first`,
    );
  }
}
