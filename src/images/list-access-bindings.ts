import type { ListAccessBindingsRequest, ListAccessBindingsResponse } from '../../generated/yandex/cloud/access/access.ts';
import { listBindings } from '../iam/access-bindings.ts';
import { toBindingMessage } from '../iam/access-bindings.mapper.ts';
import { authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { requireImage } from './require-image.ts';

export const listImageAccessBindings =
  (): Method<ListAccessBindingsRequest, ListAccessBindingsResponse> =>
  async ({ resourceId, ...page }, call) => {
    const { id, folderId } = await requireImage(call.em, resourceId);
    const resource = { kind: 'compute.image', id, folderId } as const;
    await authorize(call, 'compute.images.listAccessBindings', resource);
    const { bindings, nextPageToken } = await listBindings(call.em, resource, page);
    return { accessBindings: bindings.map(toBindingMessage), nextPageToken };
  };
