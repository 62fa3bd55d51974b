import type { SetQuotaLimitRequest } from '../../generated/obraz/v1/quota_admin.ts';
import { readConfig } from '../config.ts';
import type { NewLimit, QuotaState } from '../quotas/limits.ts';
import { defineCommand, untilInterrupted, UsageError } from './command.ts';
import { describeQuota, fromQuotaMessage, parseLimit, quotaCloud } from './quota-text.ts';
import { eitherWay, type RunningService } from './running-service.ts';

export const quotaSet = defineCommand({
  summary: 'set a limit: a number, unlimited, or default',
  description: `The number is in the quota's unit: things for ….count, bytes for ….size, where KiB, MiB, GiB and TiB may follow. A limit
below what is used takes nothing away; it refuses what comes. "all" instead of an id sets every limit, to unlimited or default. The
quotas and their limits: obraz quota list.`,
  operands: ['quota id', 'limit'],
  options: { cloud: quotaCloud },
  async run({ environment, operands, options }) {
    const [quotaId, text] = operands as [string, string];
    const limit = parseLimit(quotaId, text);
    if (limit === undefined || (quotaId === 'all' && typeof limit === 'number')) {
      const numbers = quotaId === 'all' ? '' : 'a number, ';
      throw new UsageError(`quota set: the limit is ${numbers}"unlimited" or "default", not "${text}"`, { cause: 'quota set' });
    }
    const { quotas } = await import('../quotas.ts');
    const quotaIds = quotaId === 'all' ? quotas.map(({ id }) => id) : [quotaId];
    const states = await eitherWay(readConfig(environment), untilInterrupted(), {
      async alone({ fork, ids }) {
        const { requireQuota, setLimit } = await import('../quotas/limits.ts');
        const set: QuotaState[] = [];
        for (const id of quotaIds)
          set.push(await setLimit(fork(), requireQuota(quotas, id), options.cloud ?? ids.cloudId, limit));
        return set;
      },
      through: (service) => setThrough(service, options.cloud ?? service.cloudId, quotaIds, limit),
    });
    for (const state of states) process.stdout.write(describeQuota(state));
  },
});

function toMessage(limit: NewLimit): SetQuotaLimitRequest['limit'] {
  if (limit === 'unlimited') return { $case: 'unlimited', value: {} };
  return limit === 'default' ? { $case: 'reset', value: {} } : { $case: 'value', value: BigInt(limit) };
}

async function setThrough(
  service: RunningService,
  cloudId: string,
  quotaIds: readonly string[],
  limit: NewLimit,
): Promise<QuotaState[]> {
  const { QuotaAdminServiceClient } = await import('../../generated/obraz/v1/quota_admin.ts');
  return service.with(QuotaAdminServiceClient, async (client) => {
    const set: QuotaState[] = [];
    for (const quotaId of quotaIds) {
      const request = { cloudId, quotaId, limit: toMessage(limit) };
      set.push(fromQuotaMessage(await service.call(client, client.setLimit, request)));
    }
    return set;
  });
}
