// A request's bytes that do not depend on how a client wrote them. Protobuf leaves the order of map entries open, and Go shuffles it:
// the same call, sent again under the same idempotency key, must have the same hash.

/** Serializes the message with the entries of its maps in order. */
export const canonicalBytes = <Request>(serialize: (request: Request) => Uint8Array, request: Request): Uint8Array =>
  serialize(inOrder(request) as Request);

/** A copy with the keys of all plain objects in order: maps are such, and for messages their order means nothing. */
function inOrder(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inOrder);
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, item]) => [key, inOrder(item)]));
}
