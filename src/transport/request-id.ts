import { randomUUID } from 'node:crypto';

/** All but the last 12 digits of a random UUID. */
let prefix = '';
let count = 0;

const most = 2 ** 48 - 1;

/**
 * An id in the form of a UUID, given out once. Those of one process begin alike and count: that costs a tenth of a random one, and
 * nobody gains by guessing one.
 */
export function newRequestId(): string {
  if (prefix === '' || count === most) {
    prefix = randomUUID().slice(0, -12);
    count = 0;
  }
  count += 1;
  return prefix + count.toString(16).padStart(12, '0');
}
