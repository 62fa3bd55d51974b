// ListAccessBindings, SetAccessBindings and UpdateAccessBindings, the same for every kind. Set replaces all bindings, Update applies
// changes; both answer what really changed.
import type { EntityManager } from '@mikro-orm/postgresql';
import {
  AccessBindingsOperationResult,
  type ListAccessBindingsRequest,
  type ListAccessBindingsResponse,
  SetAccessBindingsMetadata,
  type SetAccessBindingsRequest,
  UpdateAccessBindingsMetadata,
  type UpdateAccessBindingsRequest,
} from '../../generated/yandex/cloud/access/access.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { type BindingDelta, listBindings, setBindings, updateBindings } from '../iam/access-bindings.ts';
import { parseBindingDeltas, parseBindings, toBindingMessage, toBindingsResult } from '../iam/access-bindings.mapper.ts';
import { authorize } from '../iam/authorize.ts';
import type { Call, Method } from '../iam/call.ts';
import type { Permission } from '../iam/permissions.ts';
import type { Resource } from '../iam/resource.ts';
import type { Operations } from '../operations/operations.ts';
import { pack, type PackedMessage } from '../operations/pack.ts';
import { lockAuthorized, requireResource } from './require.ts';
import { resourceOf, type ResourceType, type StoredResource } from './resource-type.ts';
import { assertReady } from './status.ts';

export function accessBindingMethods<Entity extends StoredResource>(type: ResourceType<Entity>, operations: Operations) {
  const list: Method<ListAccessBindingsRequest, ListAccessBindingsResponse> = async ({ resourceId, ...page }, call) => {
    const resource = resourceOf(type, await requireResource(call.em, type, resourceId));
    await authorize(call, `${type.permissions}.listAccessBindings`, resource);
    const { bindings, nextPageToken } = await listBindings(call.em, resource, page);
    return { accessBindings: bindings.map(toBindingMessage), nextPageToken };
  };

  const set: Method<SetAccessBindingsRequest, OperationMessage> = ({ resourceId, accessBindings }, call) =>
    change(type, operations, call, {
      id: resourceId,
      permission: `${type.permissions}.setAccessBindings`,
      description: 'Set access bindings',
      metadata: pack(SetAccessBindingsMetadata, { resourceId }),
      parse: () => parseBindings(accessBindings),
      apply: setBindings,
    });

  const update: Method<UpdateAccessBindingsRequest, OperationMessage> = ({ resourceId, accessBindingDeltas }, call) =>
    change(type, operations, call, {
      id: resourceId,
      permission: `${type.permissions}.updateAccessBindings`,
      description: 'Update access bindings',
      metadata: pack(UpdateAccessBindingsMetadata, { resourceId }),
      parse: () => parseBindingDeltas(accessBindingDeltas),
      apply: updateBindings,
    });

  return {
    listAccessBindings: list,
    setAccessBindings: operations.idempotent(set),
    updateAccessBindings: operations.idempotent(update),
  };
}

interface Change<Parsed> {
  id: string;
  permission: Permission;
  description: string;
  metadata: PackedMessage;
  parse: () => Parsed;
  apply: (em: EntityManager, resource: Resource, parsed: Parsed) => Promise<BindingDelta[]>;
}

async function change<Entity extends StoredResource, Parsed>(
  type: ResourceType<Entity>,
  operations: Operations,
  call: Call,
  order: Change<Parsed>,
): Promise<OperationMessage> {
  const found = await requireResource(call.em, type, order.id);
  const resource = resourceOf(type, found);
  await authorize(call, order.permission, resource);
  const parsed = order.parse();
  const operation = await operations.begin(call, async (em) => {
    assertReady(type.noun, await lockAuthorized(em, type, found));
    const effective = await order.apply(em, resource, parsed);
    const response = pack(AccessBindingsOperationResult, toBindingsResult(effective));
    const { folderId, id } = resource;
    return {
      folderId,
      resourceId: id,
      resourceKind: type.kind,
      description: order.description,
      metadata: order.metadata,
      response,
    };
  });
  call.access.forget();
  return operation;
}
