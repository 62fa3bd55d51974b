// How far the service's own scrub is: one row, written by the process that scrubs (schedule.ts), so that a pass goes on where it was
// stopped, in whichever process. Instants are the database's.
import { defineEntity, p } from '@mikro-orm/core';
import { instant, int8, text } from '../db/columns.ts';

/** How many objects are damaged or missing, and how many resources need one of them. */
export interface ScrubSummary {
  chunks: number;
  pages: number;
  images: number;
  snapshots: number;
  disks: number;
}

const ScrubPassSchema = defineEntity({
  name: 'ScrubPass',
  tableName: 'scrub_passes',
  properties: {
    /** Always `scrub`. */
    id: text().primary(),
    startedAt: instant(),
    /** The key of the last object that was read; empty at the beginning. */
    afterKey: text(),
    objects: int8(),
    bytes: int8(),
    /** Null while the pass is under way. */
    finishedAt: instant().nullable(),
    /** What the last finished pass found; null when none has finished. */
    summary: p.json<ScrubSummary>().nullable(),
    summaryAt: instant().nullable(),
  },
});

export class ScrubPass extends ScrubPassSchema.class {}
ScrubPassSchema.setClass(ScrubPass);
export { ScrubPassSchema };
