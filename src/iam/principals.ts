// Under which names bindings are given to a caller: his own, and those of the groups that everybody of his kind belongs to.
import type { Subject } from './call.ts';

/** Outside of object storage the public service takes `allUsers` for the same as `allAuthenticatedUsers` (facts, section 5.2). */
const everybody: readonly Subject[] = [
  { type: 'system', id: 'allAuthenticatedUsers' },
  { type: 'system', id: 'allUsers' },
];

/** The subject itself first. */
export function principalsOf({ type, id, groups = [] }: Subject): Subject[] {
  return [{ type, id }, ...everybody, ...groups.map((group) => ({ type: 'system', id: group }))];
}
