// yandex.cloud.quotamanager.v1.QuotaLimitService, whole. The only resources with quotas are clouds; there are a handful of quotas, known
// from the start, so pages are cut from a list in memory.
import type {
  GetQuotaLimitRequest,
  ListQuotaLimitsRequest,
  ListQuotaLimitsResponse,
  ListServicesRequest,
  ListServicesResponse,
  QuotaLimit as QuotaLimitMessage,
} from '../../generated/yandex/cloud/quotamanager/v1/quota_limit_service.ts';
import type { Resource as ResourceMessage } from '../../generated/yandex/cloud/quotamanager/v1/resource.ts';
import { pageOf } from '../db/listing/list-fixed.ts';
import { authenticated, authorize } from '../iam/authorize.ts';
import type { Call, Method } from '../iam/call.ts';
import type { Permission } from '../iam/permissions.ts';
import { requireCloud } from '../iam/hierarchy/require-cloud.ts';
import { DomainError, invalidArgument } from '../platform/errors.ts';
import { quotaStates, requireQuota } from './limits.ts';
import { type Quota, serviceOf } from './quota.ts';
import { toQuotaLimitMessage } from './quota-limit.mapper.ts';

const cloudType = 'resource-manager.cloud';
const serviceNames: Readonly<Record<string, string>> = {
  compute: 'Compute Cloud',
  iam: 'Identity and Access Management',
  'resource-manager': 'Resource Manager',
};

export const quotaLimitMethods = (quotas: readonly Quota[]) => ({
  get: getQuotaLimit(quotas),
  list: listQuotaLimits(quotas),
  listServices: listServices(quotas),
});

const getQuotaLimit =
  (quotas: readonly Quota[]): Method<GetQuotaLimitRequest, QuotaLimitMessage> =>
  async ({ resource, quotaId }, call) => {
    const cloudId = await authorizedCloud(resource, 'quota-manager.quotaLimits.get', call);
    const [state] = await quotaStates(call.em, [requireQuota(quotas, quotaId)], cloudId);
    return toQuotaLimitMessage(state!);
  };

const listQuotaLimits =
  (quotas: readonly Quota[]): Method<ListQuotaLimitsRequest, ListQuotaLimitsResponse> =>
  async ({ resource, service, pageSize, pageToken }, call) => {
    const cloudId = await authorizedCloud(resource, 'quota-manager.quotaLimits.list', call);
    const ofService = quotas.filter((quota) => serviceOf(quota) === service);
    if (ofService.length === 0) throw new DomainError('NOT_FOUND', `Service ${service} keeps no quotas`);
    const page = pageOf(JSON.stringify([call.method, cloudId, service]), ofService, { pageSize, pageToken });
    const states = await quotaStates(call.em, page.items, cloudId);
    return {
      resource: { id: cloudId, type: cloudType },
      quotaLimits: states.map(toQuotaLimitMessage),
      nextPageToken: page.nextPageToken,
    };
  };

/** Which services there are is no secret: every authenticated caller may ask. */
const listServices =
  (quotas: readonly Quota[]): Method<ListServicesRequest, ListServicesResponse> =>
  async ({ resourceType, pageSize, pageToken }, call) => {
    authenticated(call);
    assertCloud('resource_type', resourceType);
    const services = [...new Set(quotas.map(serviceOf))].map((id) => ({ id, name: serviceNames[id] ?? id }));
    const page = pageOf(JSON.stringify([call.method, resourceType]), services, { pageSize, pageToken });
    return { services: page.items, nextPageToken: page.nextPageToken };
  };

async function authorizedCloud(resource: ResourceMessage | undefined, permission: Permission, call: Call): Promise<string> {
  const { id, type } = resource ?? { id: '', type: '' };
  assertCloud('resource.type', type);
  await authorize(call, permission, { kind: cloudType, id });
  return (await requireCloud(call.em, id)).id;
}

function assertCloud(field: string, type: string): void {
  if (type !== cloudType) throw invalidArgument(field, `must be ${cloudType}: nothing else has quotas`);
}
