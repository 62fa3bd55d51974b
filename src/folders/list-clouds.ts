import type { ListCloudsRequest, ListCloudsResponse } from '../../generated/yandex/cloud/resourcemanager/v1/cloud_service.ts';
import { type ListDefinition, listPage } from '../db/listing/list-page.ts';
import { authenticated } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { Cloud } from '../iam/hierarchy/cloud.entity.ts';
import { sharedWith } from '../iam/shared-with.ts';
import { toCloudMessage } from './cloud.mapper.ts';

const clouds: ListDefinition<Cloud> = {
  method: 'yandex.cloud.resourcemanager.v1.CloudService/List',
  entity: Cloud,
  fields: { name: { type: 'text' } },
};

/** Clouds have no parent whose roles could allow the list: every authenticated caller may ask, and sees those on which he has a role. */
export const listClouds: Method<ListCloudsRequest, ListCloudsResponse> = async (request, call) => {
  const { organizationId, pageSize, pageToken, filter } = request;
  const visible = sharedWith<Cloud>(authenticated(call), 'resource-manager.clouds.get', 'resource-manager.cloud');
  const scope = organizationId === '' ? {} : { organizationId };
  const page = await listPage(call.em, clouds, { scope, visible, pageSize, pageToken, filter });
  return { clouds: page.items.map(toCloudMessage), nextPageToken: page.nextPageToken };
};
