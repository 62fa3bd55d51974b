import type { ResourceType } from '../resources/resource-type.ts';
import { Snapshot } from './snapshot.entity.ts';

export const snapshotResource: ResourceType<Snapshot> = {
  noun: 'Snapshot',
  entity: Snapshot,
  table: 'snapshots',
  kind: 'compute.snapshot',
  permissions: 'compute.snapshots',
};
