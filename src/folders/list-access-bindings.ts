import type { ListAccessBindingsRequest, ListAccessBindingsResponse } from '../../generated/yandex/cloud/access/access.ts';
import { listBindings } from '../iam/access-bindings.ts';
import { toBindingMessage } from '../iam/access-bindings.mapper.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { requireCloud } from '../iam/hierarchy/require-cloud.ts';
import { requireFolder } from './require-folder.ts';

type ListAccessBindings = Method<ListAccessBindingsRequest, ListAccessBindingsResponse>;

export const listFolderAccessBindings: ListAccessBindings = async ({ resourceId: id, ...page }, call) => {
  const resource = { kind: 'resource-manager.folder', id } as const;
  await authorize(call, 'resource-manager.folders.listAccessBindings', resource);
  await requireFolder(call.em, id);
  const { bindings, nextPageToken } = await listBindings(call.em, resource, page);
  return { accessBindings: bindings.map(toBindingMessage), nextPageToken };
};

export const listCloudAccessBindings: ListAccessBindings = async ({ resourceId: id, ...page }, call) => {
  const resource = { kind: 'resource-manager.cloud', id } as const;
  await authorize(call, 'resource-manager.clouds.listAccessBindings', resource);
  await requireCloud(call.em, id);
  const { bindings, nextPageToken } = await listBindings(call.em, resource, page);
  return { accessBindings: bindings.map(toBindingMessage), nextPageToken };
};
