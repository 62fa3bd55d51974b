// ListAccessBindings, SetAccessBindings and UpdateAccessBindings, the same for whatever has bindings of its own. Set replaces all of
// them, Update applies changes; both answer what really changed.
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

type BindablePermissions =
  | 'compute.images'
  | 'compute.disks'
  | 'compute.snapshots'
  | 'iam.serviceAccounts'
  | 'resource-manager.clouds'
  | 'resource-manager.folders';

/** A kind of thing that roles can be bound to. */
export interface Bindable {
  readonly permissions: BindablePermissions;
  /** As authorize asks for it. @throws DomainError NOT_FOUND. */
  locate(em: EntityManager, id: string): Promise<Resource>;
  /**
   * Holds it, in a transaction, against its delete. Answers the folder that the operation belongs to, empty for none.
   * @throws DomainError NOT_FOUND.
   */
  hold(em: EntityManager, resource: Resource): Promise<{ folderId: string }>;
  /** After a change, in its transaction. @throws DomainError for bindings that must not be lost. */
  assertKept?(em: EntityManager, resource: Resource): Promise<void>;
}

export function bindingMethods(kind: Bindable, operations: Operations) {
  const list: Method<ListAccessBindingsRequest, ListAccessBindingsResponse> = async ({ resourceId, ...page }, call) => {
    const resource = await kind.locate(call.em, resourceId);
    await authorize(call, `${kind.permissions}.listAccessBindings`, resource);
    const { bindings, nextPageToken } = await listBindings(call.em, resource, page);
    return { accessBindings: bindings.map(toBindingMessage), nextPageToken };
  };

  const set: Method<SetAccessBindingsRequest, OperationMessage> = ({ resourceId, accessBindings }, call) =>
    change(kind, operations, call, {
      id: resourceId,
      permission: `${kind.permissions}.setAccessBindings`,
      description: 'Set access bindings',
      metadata: pack(SetAccessBindingsMetadata, { resourceId }),
      parse: () => parseBindings(accessBindings),
      apply: setBindings,
    });

  const update: Method<UpdateAccessBindingsRequest, OperationMessage> = ({ resourceId, accessBindingDeltas }, call) =>
    change(kind, operations, call, {
      id: resourceId,
      permission: `${kind.permissions}.updateAccessBindings`,
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

async function change<Parsed>(
  kind: Bindable,
  operations: Operations,
  call: Call,
  order: Change<Parsed>,
): Promise<OperationMessage> {
  const resource = await kind.locate(call.em, order.id);
  await authorize(call, order.permission, resource);
  const parsed = order.parse();
  const operation = await operations.begin(call, async (em) => {
    const { folderId } = await kind.hold(em, resource);
    const effective = await order.apply(em, resource, parsed);
    await kind.assertKept?.(em, resource);
    const response = pack(AccessBindingsOperationResult, toBindingsResult(effective));
    return {
      folderId,
      resourceId: resource.id,
      resourceKind: resource.kind,
      description: order.description,
      metadata: order.metadata,
      response,
    };
  });
  call.access.forget();
  return operation;
}
