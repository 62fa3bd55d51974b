// The types of disks and their size rules: a fixed list. All are served the same; what differs is what sizes they take.
// Source: facts, section 1.3.
import { zoneIds } from './zones.ts';

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;

export type DiskTypeId = 'network-hdd' | 'network-ssd' | 'network-ssd-io-m3' | 'network-ssd-nonreplicated';

export interface DiskType {
  id: DiskTypeId;
  description: string;
  zoneIds: readonly string[];
  /** Sizes are multiples of this, bytes; itself a multiple of 4 MiB. */
  sizeStepBytes: number;
}

export const diskTypes: readonly DiskType[] = [
  { id: 'network-hdd', description: 'Network disk, hard drives', zoneIds, sizeStepBytes: 4 * MiB },
  { id: 'network-ssd', description: 'Network disk, solid-state drives', zoneIds, sizeStepBytes: 4 * MiB },
  {
    id: 'network-ssd-io-m3',
    description: 'Network disk, fast solid-state drives, three copies',
    zoneIds,
    sizeStepBytes: 93 * GiB,
  },
  {
    id: 'network-ssd-nonreplicated',
    description: 'Network disk, solid-state drives, one copy',
    zoneIds,
    sizeStepBytes: 93 * GiB,
  },
];

/** What a disk is whose request names no type. */
export const defaultDiskTypeId = 'network-hdd';
