// A device's runs as base:allocation may say them (doc/proto.md, NBD_REPLY_TYPE_BLOCK_STATUS): equal neighbours joined, lengths of 32
// bits, all but the last inside the request, nothing behind the end of the export. Pure; lengths are bytes.
import type { BlockRun } from './block-device.ts';

/** Enough for 64 MiB of runs of 4 KiB each, in 128 KiB of reply. */
export const maxRuns = 16 * 1024;
/** The largest length that is a multiple of 64 KiB. */
const maxRunBytes = 0xffff_0000;

/** @param oneRun NBD_CMD_FLAG_REQ_ONE: one run, not longer than the request. @throws RangeError for an answer that no device may give. */
export function allocationRuns(
  runs: readonly BlockRun[],
  request: { offset: number; length: number },
  sizeBytes: number,
  oneRun: boolean,
): BlockRun[] {
  const furthest = oneRun ? request.length : sizeBytes - request.offset;
  const answer: BlockRun[] = [];
  let covered = 0;
  for (const { length, hole, zero } of runs) {
    if (!Number.isSafeInteger(length) || length <= 0) throw new RangeError(`a run of ${length} bytes`);
    const last = answer.at(-1);
    const joined = last?.hole === hole && last.zero === zero;
    // What begins behind the request is only of use to lengthen the last run.
    if (!joined && (covered >= request.length || (oneRun && answer.length === 1))) break;
    const room = Math.min(length, furthest - covered, maxRunBytes - (joined ? last.length : 0));
    if (room > 0 && joined) last.length += room;
    else if (room > 0) answer.push({ length: room, hole, zero });
    covered += room;
    if (room < length) break;
  }
  if (answer.length === 0) throw new RangeError('no runs');
  return answer;
}
