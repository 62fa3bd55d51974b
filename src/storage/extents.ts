// What is known of the contents of a range without reading it, as a list of runs: NBD's base:allocation is made of it.

/** A run of bytes of one kind. */
export interface Extent {
  /** Bytes, at least 1. */
  length: number;
  /** Nothing is stored for it. */
  hole: boolean;
  /** It reads as zeros. */
  zero: boolean;
}

/** Adds a run at the end, joined to the last one when both are of one kind. */
export function addExtent(runs: Extent[], length: number, hole: boolean, zero: boolean): void {
  const last = runs.at(-1);
  if (last !== undefined && last.hole === hole && last.zero === zero) last.length += length;
  else runs.push({ length, hole, zero });
}
