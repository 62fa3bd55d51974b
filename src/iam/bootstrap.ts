// What the first start makes, once for all processes: a cloud with a folder and an admin service account, and the system cloud with
// the folder `standard-images`, which every authenticated caller may read.
import type { EntityManager } from '@mikro-orm/postgresql';
import { newId } from '../platform/ids.ts';
import { setBindings } from './access-bindings.ts';
import { Cloud } from './hierarchy/cloud.entity.ts';
import { Folder } from './hierarchy/folder.entity.ts';
import { Installation, installationId } from './installation.entity.ts';
import { ServiceAccount } from './service-account.entity.ts';
import { standardImagesFolderId } from './standard-images.ts';

export { standardImagesFolderId } from './standard-images.ts';

export interface BootstrapIds {
  organizationId: string;
  cloudId: string;
  folderId: string;
  serviceAccountId: string;
}

/** Call it in a transaction. The first call makes everything; every later one answers the same ids and changes nothing. */
export async function bootstrap(em: EntityManager): Promise<BootstrapIds> {
  await em.execute('select pg_advisory_xact_lock(hashtextextended(?, 0))', ['bootstrap']);
  const installation = (await em.findOne(Installation, { id: installationId })) ?? (await install(em));
  const { organizationId, cloudId, folderId, serviceAccountId } = installation;
  return { organizationId, cloudId, folderId, serviceAccountId };
}

async function install(em: EntityManager): Promise<Installation> {
  const createdAt = new Date();
  const organizationId = newId('organization');
  const described = { createdAt, description: '', labels: {} };
  const cloud = em.create(Cloud, { ...described, id: newId('cloud'), organizationId, name: 'default', system: false });
  const folder = em.create(Folder, { ...described, id: newId('folder'), cloudId: cloud.id, name: 'default', status: 'ACTIVE' });
  const systemCloud = em.create(Cloud, {
    ...described,
    id: newId('cloud'),
    organizationId,
    name: 'system',
    description: 'Holds what belongs to everybody',
    system: true,
  });
  em.create(Folder, {
    ...described,
    id: standardImagesFolderId,
    cloudId: systemCloud.id,
    name: standardImagesFolderId,
    description: 'Public images',
    status: 'ACTIVE',
  });
  const admin = em.create(ServiceAccount, {
    ...described,
    id: newId('serviceAccount'),
    folderId: folder.id,
    name: 'admin',
    description: 'Made by the first start',
    status: 'ACTIVE',
  });
  const installation = em.create(Installation, {
    id: installationId,
    organizationId,
    cloudId: cloud.id,
    folderId: folder.id,
    serviceAccountId: admin.id,
    createdAt,
  });
  await em.flush();
  const adminBinding = { roleId: 'admin', subject: { id: admin.id, type: 'serviceAccount' } };
  for (const { id } of [cloud, systemCloud]) await setBindings(em, { kind: 'resource-manager.cloud', id }, [adminBinding]);
  await setBindings(em, { kind: 'resource-manager.folder', id: standardImagesFolderId }, [
    { roleId: 'compute.images.user', subject: { id: 'allAuthenticatedUsers', type: 'system' } },
  ]);
  return installation;
}
