// Rows of disks for tests of what lies beneath the API.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../../src/db/bound-query.ts';

const MiB = 1024 * 1024;

export const insertDisk = (
  em: EntityManager,
  id: string,
  { layerRoot = null, size = 16 * MiB }: { layerRoot?: string | null; size?: number } = {},
): Promise<unknown> =>
  query(
    em,
    `insert into disks (id, folder_id, created_at, name, description, labels, type_id, zone_id, size, block_size, product_ids, status,
       source_image_id, source_snapshot_id, os, hardware_generation, placement_group_id, placement_group_partition, layer_root)
     values ($1, 'f', now(), $1, '', '{}', 'network-ssd', 'z', $3, 4096, '{}', 'READY', '', '', '{}', '{}', '', 0, $2)`,
    [id, layerRoot, size],
  );
