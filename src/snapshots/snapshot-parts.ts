import type { DiskContents } from '../disks/disk-contents.ts';
import type { Operations } from '../operations/operations.ts';
import type { Layers } from '../storage/layers.ts';
import type { Snapshot } from './snapshot.entity.ts';

/** What the methods of SnapshotService are made of. */
export interface SnapshotParts {
  operations: Operations;
  /** Reads a snapshot by id; reads of the same moment share one query. */
  findSnapshot: (id: string) => Promise<Snapshot | undefined>;
  /** What was written to disks and lies in no layer yet. */
  contents: DiskContents;
  layers: Layers;
}
