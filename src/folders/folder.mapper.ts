import { Folder_Status, type Folder as FolderMessage } from '../../generated/yandex/cloud/resourcemanager/v1/folder.ts';
import type { Folder } from '../iam/hierarchy/folder.entity.ts';

export const toFolderMessage = ({ id, cloudId, createdAt, name, description, labels, status }: Folder): FolderMessage => ({
  id,
  cloudId,
  createdAt,
  name,
  description,
  labels,
  status: Folder_Status[status],
});
