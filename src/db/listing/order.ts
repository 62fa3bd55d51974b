import { invalidArgument } from '../../platform/errors.ts';

export interface Order {
  field: string;
  direction: 'asc' | 'desc';
}

/**
 * `parseOrder('createdAt desc')`; an empty text is `undefined`, the list's default. One key only: ties are broken by the list itself.
 * @throws DomainError INVALID_ARGUMENT on `order_by`.
 */
export function parseOrder(orderBy: string): Order | undefined {
  const text = orderBy.trim();
  if (text === '') return undefined;
  const match = /^([A-Za-z_][A-Za-z0-9_.]*)(?:\s+(asc|desc))?$/i.exec(text);
  if (match === null || orderBy.length > 100) {
    throw invalidArgument('order_by', 'must be one field, then asc or desc or nothing, for example "createdAt desc"');
  }
  return { field: match[1]!, direction: match[2]?.toLowerCase() === 'desc' ? 'desc' : 'asc' };
}
