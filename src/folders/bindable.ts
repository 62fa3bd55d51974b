// Role bindings of folders and clouds. The account of the first start stays the administrator of the system cloud: it is the operator, and
// the command line acts in its name.
import { AccessBinding } from '../iam/access-binding.entity.ts';
import { requireCloud } from '../iam/hierarchy/require-cloud.ts';
import { Installation } from '../iam/installation.entity.ts';
import { failedPrecondition } from '../platform/errors.ts';
import type { Bindable } from '../resources/bindable.ts';
import { noFolder } from './folder-parts.ts';
import { holdCloud } from './hold-cloud.ts';
import { holdFolder } from './hold-folder.ts';
import { requireFolder } from './require-folder.ts';

export const bindableFolder: Bindable = {
  permissions: 'resource-manager.folders',
  locate: async (em, id) => ({ kind: 'resource-manager.folder', id: (await requireFolder(em, id)).id }),
  hold: async (em, { id }) => ({ folderId: (await holdFolder(em, id)).id }),
};

export const bindableCloud: Bindable = {
  permissions: 'resource-manager.clouds',
  locate: async (em, id) => ({ kind: 'resource-manager.cloud', id: (await requireCloud(em, id)).id }),
  async hold(em, { id }) {
    await holdCloud(em, id);
    return { folderId: noFolder };
  },
  async assertKept(em, { kind, id }) {
    const { system, organizationId } = await requireCloud(em, id);
    if (!system) return;
    const { serviceAccountId } = await em.findOneOrFail(Installation, { organizationId });
    const operator = { roleId: 'admin', subjectType: 'serviceAccount', subjectId: serviceAccountId };
    if ((await em.count(AccessBinding, { resourceKind: kind, resourceId: id, ...operator })) > 0) return;
    throw failedPrecondition(`Service account ${serviceAccountId} must keep the role admin on cloud ${id}: it is the operator`);
  },
};
