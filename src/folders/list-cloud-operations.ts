import type {
  ListCloudOperationsRequest,
  ListCloudOperationsResponse,
} from '../../generated/yandex/cloud/resourcemanager/v1/cloud_service.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { requireCloud } from '../iam/hierarchy/require-cloud.ts';
import { listOperations } from '../operations/list-operations.ts';

/** Operations on the cloud itself, not on its folders. */
export const listCloudOperations: Method<ListCloudOperationsRequest, ListCloudOperationsResponse> = async (
  { cloudId, ...page },
  call,
) => {
  await authorize(call, 'resource-manager.clouds.listOperations', { kind: 'resource-manager.cloud', id: cloudId });
  await requireCloud(call.em, cloudId);
  return listOperations(call, 'yandex.cloud.resourcemanager.v1.CloudService/ListOperations', cloudId, page);
};
