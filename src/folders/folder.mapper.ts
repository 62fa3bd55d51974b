import { Folder_Status, Folder as FolderMessage } from '../../generated/yandex/cloud/resourcemanager/v1/folder.ts';
import type { Folder } from '../iam/hierarchy/folder.entity.ts';
import { type PackedMessage, pack } from '../operations/pack.ts';

export const toFolderMessage = ({ id, cloudId, createdAt, name, description, labels, status }: Folder): FolderMessage => ({
  id,
  cloudId,
  createdAt,
  name,
  description,
  labels,
  status: Folder_Status[status],
});

/** The folder as an operation's response. */
export const packFolder = (folder: Folder): PackedMessage => pack(FolderMessage, toFolderMessage(folder));
