// Set and Update access bindings of an image. Set replaces all of them, Update applies changes; both answer what really changed.
import type { EntityManager } from '@mikro-orm/postgresql';
import {
  AccessBindingsOperationResult,
  SetAccessBindingsMetadata,
  type SetAccessBindingsRequest,
  UpdateAccessBindingsMetadata,
  type UpdateAccessBindingsRequest,
} from '../../generated/yandex/cloud/access/access.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { type BindingDelta, setBindings, updateBindings } from '../iam/access-bindings.ts';
import { parseBindingDeltas, parseBindings, toBindingsResult } from '../iam/access-bindings.mapper.ts';
import { authorize } from '../iam/authorize.ts';
import type { Call, Method } from '../iam/call.ts';
import type { Permission } from '../iam/permissions.ts';
import type { Resource } from '../iam/resource.ts';
import { pack, type PackedMessage } from '../operations/pack.ts';
import type { ImageParts } from './image-parts.ts';
import { assertReady } from './image-status.ts';
import { lockImage, requireImage } from './require-image.ts';

export const setImageAccessBindings =
  (parts: ImageParts): Method<SetAccessBindingsRequest, OperationMessage> =>
  async ({ resourceId, accessBindings }, call) =>
    change(parts, call, {
      imageId: resourceId,
      permission: 'compute.images.setAccessBindings',
      description: 'Set access bindings',
      metadata: pack(SetAccessBindingsMetadata, { resourceId }),
      parse: () => parseBindings(accessBindings),
      apply: setBindings,
    });

export const updateImageAccessBindings =
  (parts: ImageParts): Method<UpdateAccessBindingsRequest, OperationMessage> =>
  async ({ resourceId, accessBindingDeltas }, call) =>
    change(parts, call, {
      imageId: resourceId,
      permission: 'compute.images.updateAccessBindings',
      description: 'Update access bindings',
      metadata: pack(UpdateAccessBindingsMetadata, { resourceId }),
      parse: () => parseBindingDeltas(accessBindingDeltas),
      apply: updateBindings,
    });

interface Change<Parsed> {
  imageId: string;
  permission: Permission;
  description: string;
  metadata: PackedMessage;
  parse: () => Parsed;
  apply: (em: EntityManager, resource: Resource, parsed: Parsed) => Promise<BindingDelta[]>;
}

async function change<Parsed>({ operations }: ImageParts, call: Call, order: Change<Parsed>): Promise<OperationMessage> {
  const { id, folderId } = await requireImage(call.em, order.imageId);
  const resource: Resource = { kind: 'compute.image', id, folderId };
  await authorize(call, order.permission, resource);
  const parsed = order.parse();
  return operations.begin(call, async (em) => {
    assertReady(await lockImage(em, id));
    const effective = await order.apply(em, resource, parsed);
    const response = pack(AccessBindingsOperationResult, toBindingsResult(effective));
    return { folderId, resourceId: id, description: order.description, metadata: order.metadata, response };
  });
}
