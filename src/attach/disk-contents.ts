// What the API's methods ask of what was written to disks, answered from the rows alone: any process answers, whichever machine holds
// the files. The disk's row is locked, so no generation begins and no lease is given meanwhile.
import { query } from '../db/bound-query.ts';
import type { CaptureTarget, DiskContents } from '../disks/disk-contents.ts';
import { failedPrecondition } from '../platform/errors.ts';
import { commitJobKind, type CommitPayload } from './commit.job.ts';
import { discardGenerations } from './generation-queries.ts';
import { liveWriter } from './session-queries.ts';

export const attachedContents: DiskContents = {
  // The machine stands in the disk's row exactly while there are generations.
  async settledRoot(_em, { machineId, layerRoot }) {
    return machineId === null ? { root: layerRoot ?? null } : undefined;
  },

  async captureJob(_em, { id, machineId }, target) {
    if (machineId === null || machineId === undefined) throw new Error(`disk ${id} has nothing to capture`);
    const payload: CommitPayload = { diskId: id, target };
    return { kind: commitJobKind(machineId), payload };
  },

  async capturing(em, { id }) {
    const [job] = await query<{ target: CaptureTarget }>(
      em,
      `select payload -> 'target' as target from jobs
       where kind like 'disk.commit/%' and payload ->> 'diskId' = $1 and payload -> 'target' is not null limit 1`,
      [id],
    );
    return job?.target;
  },

  async hasWriter(em, { id }) {
    return (await liveWriter(em, id)) !== undefined;
  },

  discard: (em, { id }) => discardGenerations(em, id),

  async growing(em, { id }) {
    // NBD clients learn the size when they open.
    if ((await liveWriter(em, id)) !== undefined) throw failedPrecondition(`Disk ${id} is attached: detach it before it grows`);
  },
};
