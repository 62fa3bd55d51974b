// yandex.cloud.resourcemanager.v1: FolderService and CloudService, one file per method. Access policies answer UNIMPLEMENTED.
import { bindingMethods } from '../resources/bindable.ts';
import { bindableCloud, bindableFolder } from './bindable.ts';
import { createCloud } from './create-cloud.ts';
import { createFolder } from './create-folder.ts';
import { deleteCloud } from './delete-cloud.ts';
import { deleteFolder } from './delete-folder.ts';
import type { FolderParts } from './folder-parts.ts';
import { getCloud } from './get-cloud.ts';
import { getFolder } from './get-folder.ts';
import { listCloudOperations } from './list-cloud-operations.ts';
import { listClouds } from './list-clouds.ts';
import { listFolderOperations } from './list-folder-operations.ts';
import { listFolders } from './list-folders.ts';
import { updateCloud } from './update-cloud.ts';
import { updateFolder } from './update-folder.ts';

export const folderMethods = (parts: FolderParts) => {
  const { operations } = parts;
  return {
    get: getFolder,
    list: listFolders,
    create: operations.idempotent(createFolder(parts)),
    update: operations.idempotent(updateFolder(parts)),
    delete: operations.idempotent(deleteFolder(parts)),
    listOperations: listFolderOperations,
    ...bindingMethods(bindableFolder, operations),
  };
};

export const cloudMethods = (parts: FolderParts) => {
  const { operations } = parts;
  return {
    get: getCloud,
    list: listClouds,
    create: operations.idempotent(createCloud(parts)),
    update: operations.idempotent(updateCloud(parts)),
    delete: operations.idempotent(deleteCloud(parts)),
    listOperations: listCloudOperations,
    ...bindingMethods(bindableCloud, operations),
  };
};
