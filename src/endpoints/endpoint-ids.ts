/**
 * The services that clients look up before they call (facts/clients.md, sections 0 and 1.1). All of them are served, or refused, at one
 * address. Some have two names, since clients differ: `resource-manager` is the Go SDK's, `resourcemanager` the Java SDK's. Each id
 * stands here once: the Java SDK fails on a repeated one.
 */
export const endpointIds = [
  'compute',
  'endpoint',
  'iam',
  'kms',
  'operation',
  'organization-manager',
  'quota-manager',
  'quotamanager',
  'resource-manager',
  'resourcemanager',
  'storage',
  'storage-api',
  'vpc',
] as const;
