// yandex.cloud.resourcemanager.v1: FolderService and CloudService. What is missing here answers UNIMPLEMENTED.
import { getCloud } from './get-cloud.ts';
import { getFolder } from './get-folder.ts';
import { listCloudAccessBindings, listFolderAccessBindings } from './list-access-bindings.ts';
import { listClouds } from './list-clouds.ts';
import { listFolders } from './list-folders.ts';

export const folderMethods = () => ({
  get: getFolder,
  list: listFolders,
  listAccessBindings: listFolderAccessBindings,
});

export const cloudMethods = () => ({
  get: getCloud,
  list: listClouds,
  listAccessBindings: listCloudAccessBindings,
});
