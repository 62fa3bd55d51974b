import type { Operations } from '../operations/operations.ts';
import type { DiskContents } from './disk-contents.ts';
import type { Disk } from './disk.entity.ts';

/** What the methods of DiskService are made of. */
export interface DiskParts {
  operations: Operations;
  /** Reads a disk by id; reads of the same moment share one query. */
  findDisk: (id: string) => Promise<Disk | undefined>;
  /** What was written to disks and lies in no layer yet. */
  contents: DiskContents;
}
