import type { Operation as OperationMessage } from '../../generated/yandex/cloud/operation/operation.ts';
import { CreateCloudMetadata, type CreateCloudRequest } from '../../generated/yandex/cloud/resourcemanager/v1/cloud_service.ts';
import { setBindings } from '../iam/access-bindings.ts';
import { authorizeOperator } from '../iam/authorize-operator.ts';
import type { Method } from '../iam/call.ts';
import { Cloud } from '../iam/hierarchy/cloud.entity.ts';
import { Installation } from '../iam/installation.entity.ts';
import { pack } from '../operations/pack.ts';
import { notFound } from '../platform/errors.ts';
import { newId } from '../platform/ids.ts';
import { assertNameFree } from '../resources/unique-name.ts';
import { packCloud } from './cloud.mapper.ts';
import { type FolderParts, noFolder } from './folder-parts.ts';
import { cloudKind } from './kinds.ts';

/** An empty cloud, by the operator, who owns it and can give it to others by its bindings. There is one organization. */
export const createCloud =
  ({ operations }: FolderParts): Method<CreateCloudRequest, OperationMessage> =>
  async ({ organizationId, name, description, labels }, call) => {
    const { id, type } = await authorizeOperator(call, 'resource-manager.clouds.create');
    if ((await call.em.count(Installation, { organizationId })) === 0) throw notFound('Organization', organizationId);
    return operations.begin(call, async (em) => {
      await assertNameFree(em, cloudKind, organizationId, name);
      const cloud = em.create(Cloud, {
        id: newId('cloud'),
        organizationId,
        createdAt: new Date(),
        name,
        description,
        labels,
        system: false,
      });
      await setBindings(em, { kind: 'resource-manager.cloud', id: cloud.id }, [
        { roleId: 'resource-manager.clouds.owner', subject: { id, type } },
      ]);
      return {
        folderId: noFolder,
        resourceId: cloud.id,
        resourceKind: 'resource-manager.cloud',
        description: 'Create cloud',
        metadata: pack(CreateCloudMetadata, { cloudId: cloud.id }),
        response: packCloud(cloud),
      };
    });
  };
