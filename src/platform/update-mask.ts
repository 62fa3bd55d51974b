import { DomainError } from './errors.ts';

/**
 * The fields that an update changes. No mask, or an empty one, means all of them.
 * @throws DomainError INVALID_ARGUMENT naming every path that cannot be updated.
 */
export function parseUpdateMask<Field extends string>(
  paths: readonly string[] | undefined,
  updatable: readonly Field[],
): Set<Field> {
  if (paths === undefined || paths.length === 0) return new Set(updatable);
  const known = new Set<string>(updatable);
  const unknown = paths.filter((path) => !known.has(path));
  if (unknown.length > 0) {
    const violations = unknown.slice(0, 20).map((path) => ({
      field: 'update_mask',
      description: `"${path.slice(0, 100)}" cannot be updated; choose from ${updatable.join(', ')}`,
    }));
    throw new DomainError('INVALID_ARGUMENT', `update_mask: ${violations[0]!.description}`, [{ kind: 'badRequest', violations }]);
  }
  return new Set(paths as readonly Field[]);
}
