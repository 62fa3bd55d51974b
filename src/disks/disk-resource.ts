import type { ResourceType } from '../resources/resource-type.ts';
import { Disk } from './disk.entity.ts';

export const diskResource: ResourceType<Disk> = {
  noun: 'Disk',
  entity: Disk,
  table: 'disks',
  kind: 'compute.disk',
  permissions: 'compute.disks',
};
