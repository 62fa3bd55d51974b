import type { EntityManager } from '@mikro-orm/postgresql';
import { DeleteDiskMetadata, type DeleteDiskRequest } from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import type { Method } from '../iam/call.ts';
import { pack } from '../operations/pack.ts';
import { failedPrecondition } from '../platform/errors.ts';
import { deleteResource } from '../resources/delete.ts';
import type { DiskContents } from './disk-contents.ts';
import type { Disk } from './disk.entity.ts';
import type { DiskParts } from './disk-parts.ts';
import { diskResource } from './disk-resource.ts';

/** Snapshots and images that were made of it keep their data: they hold their layers by roots of their own. */
export const deleteDisk =
  ({ operations, contents }: DiskParts): Method<DeleteDiskRequest, OperationMessage> =>
  ({ diskId }, call) =>
    deleteResource(operations, call, {
      type: diskResource,
      id: diskId,
      metadata: pack(DeleteDiskMetadata, { diskId }),
      async beforeRemoval(em, disk) {
        await assertDetached(em, disk, contents);
        const target = await contents.capturing(em, disk);
        if (target !== undefined) {
          throw failedPrecondition(`Disk ${disk.id} is being copied into ${target.kind} ${target.id}: wait until that is READY`);
        }
        await contents.discard(em, disk);
      },
    });

/** @throws DomainError FAILED_PRECONDITION while somebody writes to the disk. */
export async function assertDetached(em: EntityManager, disk: Disk, contents: DiskContents): Promise<void> {
  if (await contents.hasWriter(em, disk)) throw failedPrecondition(`Disk ${disk.id} is attached: detach it first`);
}
