import { Cloud as CloudMessage } from '../../generated/yandex/cloud/resourcemanager/v1/cloud.ts';
import type { Cloud } from '../iam/hierarchy/cloud.entity.ts';
import { type PackedMessage, pack } from '../operations/pack.ts';

export const toCloudMessage = ({ id, createdAt, name, description, organizationId, labels }: Cloud): CloudMessage => ({
  id,
  createdAt,
  name,
  description,
  organizationId,
  labels,
});

/** The cloud as an operation's response. */
export const packCloud = (cloud: Cloud): PackedMessage => pack(CloudMessage, toCloudMessage(cloud));
