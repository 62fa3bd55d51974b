// obraz.v1.QuotaAdminService: the operator sets limits.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { SetQuotaLimitRequest } from '../../generated/obraz/v1/quota_admin.ts';
import type { QuotaLimit as QuotaLimitMessage } from '../../generated/yandex/cloud/quotamanager/v1/quota_limit_service.ts';
import { authorizeOperator } from '../iam/authorize-operator.ts';
import type { Method } from '../iam/call.ts';
import { invalidArgument } from '../platform/errors.ts';
import { type NewLimit, requireQuota, setLimit } from './limits.ts';
import type { Quota } from './quota.ts';
import { toQuotaLimitMessage } from './quota-limit.mapper.ts';

export const quotaAdminMethods = (quotas: readonly Quota[]) => ({ setLimit: setQuotaLimit(quotas) });

const setQuotaLimit =
  (quotas: readonly Quota[]): Method<SetQuotaLimitRequest, QuotaLimitMessage> =>
  async ({ cloudId, quotaId, limit }, call) => {
    await authorizeOperator(call, 'obraz.quotas.setLimit');
    const quota = requireQuota(quotas, quotaId);
    const record = async (em: EntityManager) => call.audit?.record(em, { status: 'DONE' });
    return toQuotaLimitMessage(await setLimit(call.em, quota, cloudId, parseLimit(limit), record));
  };

function parseLimit(limit: SetQuotaLimitRequest['limit']): NewLimit {
  switch (limit?.$case) {
    case 'value':
      return Number(limit.value);
    case 'unlimited':
      return 'unlimited';
    case 'reset':
      return 'default';
    case undefined:
      throw invalidArgument('limit', 'exactly one of value, unlimited and reset must be given');
  }
}
