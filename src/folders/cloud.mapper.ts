import type { Cloud as CloudMessage } from '../../generated/yandex/cloud/resourcemanager/v1/cloud.ts';
import type { Cloud } from '../iam/hierarchy/cloud.entity.ts';

export const toCloudMessage = ({ id, createdAt, name, description, organizationId, labels }: Cloud): CloudMessage => ({
  id,
  createdAt,
  name,
  description,
  organizationId,
  labels,
});
