import type { Cloud as CloudMessage } from '../../generated/yandex/cloud/resourcemanager/v1/cloud.ts';
import type { GetCloudRequest } from '../../generated/yandex/cloud/resourcemanager/v1/cloud_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { toCloudMessage } from './cloud.mapper.ts';
import { requireCloud } from '../iam/hierarchy/require-cloud.ts';

export const getCloud: Method<GetCloudRequest, CloudMessage> = async ({ cloudId }, call) => {
  await authorize(call, 'resource-manager.clouds.get', { kind: 'resource-manager.cloud', id: cloudId });
  return toCloudMessage(await requireCloud(call.em, cloudId));
};
