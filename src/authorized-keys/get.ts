import type { Key as KeyMessage } from '../../generated/yandex/cloud/iam/v1/key.ts';
import type { GetKeyRequest } from '../../generated/yandex/cloud/iam/v1/key_service.ts';
import type { Method } from '../iam/call.ts';
import { toKeyMessage } from './key.mapper.ts';
import { requireKey } from './require.ts';

export const getKey: Method<GetKeyRequest, KeyMessage> = async ({ keyId }, call) => {
  const { key } = await requireKey(call, keyId, 'iam.keys.get');
  return toKeyMessage(key);
};
