// What the API's methods ask of the bytes that were written to disks and lie in no layer yet. They are called in the method's
// transaction with the disk's row locked FOR UPDATE, so what they answer holds until that transaction ends.
//
// A disk with nothing such is its layer root alone, and everything about it is one transaction.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { JobOrder } from '../operations/operations.ts';
import type { Disk } from './disk.entity.ts';

/** What a capture makes: a row that is CREATING until then. */
export interface CaptureTarget {
  kind: 'snapshot' | 'image';
  id: string;
}

export interface DiskContents {
  /** The root of all that the disk holds, null for zeros; undefined when there is more than its base, and it takes a capture. */
  settledRoot(em: EntityManager, disk: Disk): Promise<{ root: string | null } | undefined>;
  /**
   * The job that makes `target` of the disk as it is at this moment, when it is not settled. The job ends with finishSnapshot
   * (snapshots/finish.ts) or finishCapturedImage (images/finish.ts), and gives up with abandonSnapshot or abandonImage.
   */
  captureJob(em: EntityManager, disk: Disk, target: CaptureTarget): Promise<JobOrder>;
  /** What is being captured of the disk; it must not go meanwhile. */
  capturing(em: EntityManager, disk: Disk): Promise<CaptureTarget | undefined>;
  /** Whether somebody has the disk attached for writing. */
  hasWriter(em: EntityManager, disk: Disk): Promise<boolean>;
  /** The disk is being deleted: what was written to it goes too. Only without a writer and a capture. */
  discard(em: EntityManager, disk: Disk): Promise<void>;
  /** The disk is about to grow to `sizeBytes`. @throws DomainError FAILED_PRECONDITION when it cannot grow now. */
  growing(em: EntityManager, disk: Disk, sizeBytes: number): Promise<void>;
}

/** Of a service where nobody can attach disks: each is its base. */
export const noContents: DiskContents = {
  settledRoot: async (_em, { layerRoot }) => ({ root: layerRoot ?? null }),
  async captureJob(_em, { id }) {
    throw new Error(`disk ${id} has nothing to capture`);
  },
  capturing: async () => undefined,
  hasWriter: async () => false,
  async discard() {},
  async growing() {},
};
