// Lists, page by page: a filter, an order, and pages that start after the last row of the one before (keyset), so that rows which come
// or go meanwhile neither repeat nor hide others. One row more than the page holds is read: a page with a token is never the last, and
// never empty.
import { type EntityName, type FilterQuery, raw } from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { invalidArgument } from '../../platform/errors.ts';
import {
  type ColumnValue,
  filterValue,
  findField,
  fromTokenText,
  type ListField,
  type ListFields,
  toTokenText,
} from './fields.ts';
import { parseFilter } from './filter.ts';
import { parseOrder } from './order.ts';
import { decodePageToken, encodePageToken } from './page-token.ts';

type PropertyOf<Entity> = keyof Entity & string;

/** A kind of list, declared once beside its method. Fields carry the names of the entity's properties. */
export interface ListDefinition<Entity extends object> {
  /** The method that lists, `yandex.cloud.compute.v1.ImageService/List`: its page tokens fit no other. */
  method: string;
  entity: EntityName<Entity>;
  /** What clients may filter and sort by. */
  fields: { [Property in PropertyOf<Entity>]?: ListField };
  /** The property that is unique within the scope, orders the list by default and breaks ties. Default: `id`, a text. */
  key?: { property: PropertyOf<Entity>; type: ListField['type'] };
}

/** A list request. All of its texts come from the client. */
export interface ListQuery<Entity> {
  /** The parent and whatever else the method itself demands: `{ folderId }`. Bound into page tokens. */
  scope: FilterQuery<Entity>;
  /** Rows that the caller may see, where that is not all of the scope; not bound into page tokens. */
  visible?: FilterQuery<Entity> | undefined;
  /** 0 means 100; at most 1000. */
  pageSize: bigint | number;
  pageToken: string;
  filter?: string;
  orderBy?: string;
}

export interface Page<Entity> {
  items: Entity[];
  /** Empty on the last page; at most 100 characters. */
  nextPageToken: string;
}

export const defaultPageSize = 100;
export const maxPageSize = 1000;

/** Reads one page. @throws DomainError INVALID_ARGUMENT naming page_size, page_token, filter or order_by. */
export async function listPage<Entity extends object>(
  em: EntityManager,
  definition: ListDefinition<Entity>,
  query: ListQuery<Entity>,
): Promise<Page<Entity>> {
  const pageSize = parsePageSize(query.pageSize);
  const fields = definition.fields as ListFields;
  const key = definition.key ?? { property: 'id', type: 'text' };
  const conditions = resolveFilter(fields, query.filter ?? '');
  const order = resolveOrder(fields, key, query.orderBy ?? '');
  const bound = JSON.stringify([definition.method, query.scope, conditions, order.property, order.direction]);

  const where: unknown[] = [query.scope, ...conditions.map(toWhere)];
  if (query.visible !== undefined) where.push(query.visible);
  const sortsByKey = order.property === key.property;
  if (query.pageToken !== '') {
    const position = decodePageToken(bound, query.pageToken, !sortsByKey);
    const start = [fromTokenText(key.type, position.key)];
    if (position.sort !== undefined) start.unshift(fromTokenText(order.type, position.sort));
    where.push(
      after(em, definition.entity, sortsByKey ? [key.property] : [order.property, key.property], order.direction, start),
    );
  }
  const rows = await em.find(definition.entity, { $and: where } as FilterQuery<NoInfer<Entity>>, {
    orderBy: (sortsByKey
      ? [{ [key.property]: order.direction }]
      : [{ [order.property]: order.direction }, { [key.property]: order.direction }]) as never,
    limit: pageSize + 1,
    // For reading only: nobody tracks their changes.
    disableIdentityMap: true,
  });
  if (rows.length <= pageSize) return { items: rows, nextPageToken: '' };
  rows.length = pageSize;
  const last = rows.at(-1) as Record<string, unknown>;
  const keyText = toTokenText(key.type, last[key.property]);
  const position = sortsByKey ? { key: keyText } : { key: keyText, sort: toTokenText(order.type, last[order.property]) };
  return { items: rows, nextPageToken: encodePageToken(bound, position) };
}

/** @throws DomainError INVALID_ARGUMENT on `page_size`. */
export function parsePageSize(pageSize: bigint | number): number {
  if (pageSize < 0 || pageSize > maxPageSize) {
    throw invalidArgument('page_size', `must be in the range 0-${maxPageSize}, not ${pageSize}`);
  }
  return Number(pageSize) || defaultPageSize;
}

interface ResolvedCondition {
  property: string;
  negated: boolean;
  values: ColumnValue[];
}

function resolveFilter(fields: ListFields, filter: string): ResolvedCondition[] {
  return parseFilter(filter).map(({ field: name, negated, values }) => {
    const found = findField(fields, name);
    if (found === undefined || found.field.filters === false) {
      throw invalidArgument('filter', `cannot filter by "${name.slice(0, 63)}"; choose from ${namesOf(fields, 'filters')}`);
    }
    return { property: found.property, negated, values: values.map((value) => filterValue(name, found.field, value)) };
  });
}

function resolveOrder(fields: ListFields, key: { property: string; type: ListField['type'] }, orderBy: string) {
  const order = parseOrder(orderBy);
  if (order === undefined) return { ...key, direction: 'asc' as const };
  const found = findField({ [key.property]: { type: key.type }, ...fields }, order.field);
  if (found === undefined || found.field.sorts === false) {
    throw invalidArgument('order_by', `cannot order by "${order.field.slice(0, 63)}"; choose from ${namesOf(fields, 'sorts')}`);
  }
  return { property: found.property, type: found.field.type, direction: order.direction };
}

const namesOf = (fields: ListFields, ability: 'filters' | 'sorts'): string =>
  Object.keys(fields)
    .filter((name) => fields[name]![ability] !== false)
    .join(', ');

const toWhere = ({ property, negated, values }: ResolvedCondition) => ({ [property]: { [negated ? '$nin' : '$in']: values } });

/** `(created_at, id) > (…)`: compared as a row, which an index over the same columns answers without a walk over ties. */
function after<Entity extends object>(
  em: EntityManager,
  entity: EntityName<Entity>,
  properties: string[],
  direction: 'asc' | 'desc',
  start: ColumnValue[],
) {
  const metadata = em.getMetadata(entity).properties as unknown as Record<string, { fieldNames: string[] }>;
  const columns = properties.map((property) => metadata[property]!.fieldNames[0]!);
  const comparison = direction === 'asc' ? '>' : '<';
  const row = (alias: string) =>
    `(${columns.map((column) => `${alias}."${column}"`).join(', ')}) ${comparison} (${columns.map(() => '?').join(', ')})`;
  return { [raw(row, start)]: [] };
}
