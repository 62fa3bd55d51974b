// The roles that can be bound, by name. (What each of them allows comes with their enforcement; so far every authenticated service
// account may do everything: authorize.ts.) Source: facts, section 5.1.
export const roles = [
  'auditor',
  'viewer',
  'editor',
  'admin',
  'compute.auditor',
  'compute.viewer',
  'compute.operator',
  'compute.images.user',
  'compute.disks.user',
  'compute.snapshotSchedules.viewer',
  'compute.snapshotSchedules.editor',
  'compute.editor',
  'compute.admin',
  'resource-manager.auditor',
  'resource-manager.viewer',
  'resource-manager.editor',
  'resource-manager.admin',
  'resource-manager.clouds.member',
  'resource-manager.clouds.owner',
  'iam.auditor',
  'iam.viewer',
  'iam.editor',
  'iam.admin',
  'iam.serviceAccounts.user',
  'iam.serviceAccounts.admin',
  'iam.serviceAccounts.keyAdmin',
  'iam.serviceAccounts.tokenCreator',
  'quota-manager.viewer',
] as const;

export type Role = (typeof roles)[number];

const known: ReadonlySet<string> = new Set(roles);

export const isRole = (name: string): name is Role => known.has(name);
