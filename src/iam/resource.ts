/** Kinds of resources that roles are bound to or inherited by. */
export type ResourceKind =
  | 'resource-manager.cloud'
  | 'resource-manager.folder'
  | 'iam.serviceAccount'
  | 'compute.image'
  | 'compute.disk'
  | 'compute.snapshot'
  | 'compute.snapshotSchedule'
  | 'compute.operation';

export interface Resource {
  kind: ResourceKind;
  id: string;
  /** The folder that the resource lies in, whose roles it inherits. Not given for folders and clouds. */
  folderId?: string;
}
