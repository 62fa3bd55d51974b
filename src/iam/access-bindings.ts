// Role bindings of one resource, whatever its kind: list, set (replaces all), update (single changes). They are kept and answered as
// they were given, in the order in which they were given. Called in the transaction of the method; changes of one resource wait for
// each other.
import { LockMode } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { type ListDefinition, listPage } from '../db/listing/list-page.ts';
import { failedPrecondition } from '../platform/errors.ts';
import { AccessBinding } from './access-binding.entity.ts';
import type { Subject } from './call.ts';
import type { Resource } from './resource.ts';

export interface Binding {
  roleId: string;
  subject: Subject;
}

export interface BindingDelta {
  action: 'ADD' | 'REMOVE';
  binding: Binding;
}

type BoundResource = Pick<Resource, 'kind' | 'id'>;

/** Most bindings that one resource can have. */
export const maxBindings = 1000;

const bindingList: ListDefinition<AccessBinding> = {
  method: 'ListAccessBindings',
  entity: AccessBinding,
  fields: {},
  key: { property: 'position', type: 'integer' },
};

/** One page. @throws DomainError INVALID_ARGUMENT naming page_size or page_token. */
export async function listBindings(
  em: EntityManager,
  { kind, id }: BoundResource,
  page: { pageSize: bigint; pageToken: string },
): Promise<{ bindings: Binding[]; nextPageToken: string }> {
  const { items, nextPageToken } = await listPage(em, bindingList, { scope: { resourceKind: kind, resourceId: id }, ...page });
  return { bindings: items.map(toBinding), nextPageToken };
}

/** Replaces all bindings of the resource; of equal ones the first counts. Answers what changed: removals, then additions. */
export async function setBindings(
  em: EntityManager,
  resource: BoundResource,
  bindings: readonly Binding[],
): Promise<BindingDelta[]> {
  const old = await lockBindings(em, resource);
  const wanted = new Map(bindings.toReversed().map((binding) => [keyOf(binding), binding]));
  const ordered = [...wanted.values()].toReversed();
  await em.nativeDelete(AccessBinding, scopeOf(resource));
  await insert(em, resource, ordered, 0);
  const oldKeys = new Set(old.map(keyOf));
  return [
    ...old.filter((binding) => !wanted.has(keyOf(binding))).map((binding) => delta('REMOVE', binding)),
    ...ordered.filter((binding) => !oldKeys.has(keyOf(binding))).map((binding) => delta('ADD', binding)),
  ];
}

/**
 * Applies the changes in order. Adding what is there and removing what is not change nothing; the answer is the changes that did
 * something. @throws DomainError FAILED_PRECONDITION when more than 1000 bindings would remain.
 */
export async function updateBindings(
  em: EntityManager,
  resource: BoundResource,
  deltas: readonly BindingDelta[],
): Promise<BindingDelta[]> {
  const old = await lockBindings(em, resource);
  const present = new Map(old.map((binding) => [keyOf(binding), toBinding(binding)]));
  const effective = deltas.filter(({ action, binding }) => {
    const key = keyOf(binding);
    if (present.has(key) === (action === 'ADD')) return false;
    if (action === 'ADD') present.set(key, binding);
    else present.delete(key);
    return true;
  });
  if (effective.length === 0) return [];
  if (present.size > maxBindings) {
    throw failedPrecondition(`${resource.id} would have ${present.size} access bindings; at most ${maxBindings} are allowed`);
  }
  // What was removed and added again stands at the end of the map: it is new, and comes last.
  const lastPosition = old.at(-1)?.position ?? 0;
  const removed = new Set(effective.filter(({ action }) => action === 'REMOVE').map(({ binding }) => keyOf(binding)));
  const kept = new Set(old.map(keyOf).filter((key) => !removed.has(key)));
  for (const binding of old) if (removed.has(keyOf(binding))) em.remove(binding);
  await em.flush();
  await insert(
    em,
    resource,
    [...present.values()].filter((binding) => !kept.has(keyOf(binding))),
    lastPosition,
  );
  return effective;
}

/** Removes the bindings of a resource that goes. */
export async function removeBindings(em: EntityManager, resource: BoundResource): Promise<void> {
  await lockRows(em, resource);
  await em.nativeDelete(AccessBinding, scopeOf(resource));
}

/**
 * Takes away all roles on a resource that goes and is a subject, and all that it has, wherever it has them. In one statement: two that go
 * and have roles on each other lock the rows that they share in the same order.
 */
export async function removeBindingsOfAndOn(em: EntityManager, resource: BoundResource, { id, type }: Subject): Promise<void> {
  await query(
    em,
    `with gone as materialized (
       select ctid from access_bindings
       where (subject_type = $1 and subject_id = $2) or (resource_kind = $3 and resource_id = $4)
       order by resource_kind, resource_id, role_id, subject_type, subject_id for update
     ) delete from access_bindings using gone where access_bindings.ctid = gone.ctid`,
    [type, id, resource.kind, resource.id],
  );
}

/** Its bindings in their order, held against other changes until the transaction ends. */
async function lockBindings(em: EntityManager, resource: BoundResource): Promise<AccessBinding[]> {
  await em.execute('select pg_advisory_xact_lock(hashtextextended(?, 0))', [`bindings/${resource.kind}/${resource.id}`]);
  return (await lockRows(em, resource)).sort((one, other) => one.position - other.position);
}

/** In the order of their key, as removeBindingsOfAndOn does: two transactions that lock some of the same rows cannot wait for each other. */
const lockRows = (em: EntityManager, resource: BoundResource): Promise<AccessBinding[]> =>
  em.find(AccessBinding, scopeOf(resource), {
    orderBy: { roleId: 'asc', subjectType: 'asc', subjectId: 'asc' },
    lockMode: LockMode.PESSIMISTIC_WRITE,
  });

async function insert(em: EntityManager, resource: BoundResource, bindings: readonly Binding[], after: number): Promise<void> {
  if (bindings.length === 0) return;
  await em.insertMany(
    AccessBinding,
    bindings.map(({ roleId, subject }, index) => ({
      ...scopeOf(resource),
      roleId,
      subjectType: subject.type,
      subjectId: subject.id,
      position: after + index + 1,
    })),
  );
}

const scopeOf = ({ kind, id }: BoundResource) => ({ resourceKind: kind, resourceId: id });

const toBinding = ({ roleId, subjectType, subjectId }: AccessBinding): Binding => ({
  roleId,
  subject: { id: subjectId, type: subjectType },
});

const delta = (action: 'ADD' | 'REMOVE', binding: Binding | AccessBinding): BindingDelta => ({
  action,
  binding: binding instanceof AccessBinding ? toBinding(binding) : binding,
});

const keyOf = (binding: Binding | AccessBinding): string => {
  const { roleId, subject } = binding instanceof AccessBinding ? toBinding(binding) : binding;
  return JSON.stringify([roleId, subject.type, subject.id]);
};
