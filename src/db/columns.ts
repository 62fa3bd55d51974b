import { p } from '@mikro-orm/core';

// Text is compared by byte (COLLATE "C") on every machine, so that pages and name look-ups do not depend on a locale.

/** Ids, names and every other text that is compared, sorted or unique. */
export const text = () => p.text().collation('C');

/** Bytes, chunk and quota counts: int8 in the database, a safe integer here (all are bounded far below 2^53). */
export const int8 = () => p.bigint('number');

/** Instants are kept at milliseconds, as JavaScript's Date holds them, so that a value read back equals the one written. */
export const instant = () => p.datetime(3);
