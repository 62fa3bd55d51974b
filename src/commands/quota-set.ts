import type { SetQuotaLimitRequest } from '../../generated/obraz/v1/quota_admin.ts';
import { readConfig } from '../config.ts';
import type { NewLimit, QuotaState } from '../quotas/limits.ts';
import { defineCommand, untilInterrupted, UsageError } from './command.ts';
import { describeQuota, fromQuotaMessage, quotaCloud } from './quota-text.ts';
import { eitherWay, type RunningService } from './running-service.ts';

export const quotaSet = defineCommand({
  summary: 'set a limit: a number, unlimited, or default',
  description: `The number is in the quota's unit: things for ….count, bytes for ….size. A limit below what is used takes nothing
away; it refuses what comes. The quotas and their limits: obraz quota list.`,
  operands: ['quota id', 'limit'],
  options: { cloud: quotaCloud },
  async run({ environment, operands, options }) {
    const [quotaId, text] = operands as [string, string];
    const limit = parseLimit(text);
    const state = await eitherWay(readConfig(environment), untilInterrupted(), {
      async alone({ fork, ids }) {
        const [{ requireQuota, setLimit }, { quotas }] = await Promise.all([
          import('../quotas/limits.ts'),
          import('../quotas.ts'),
        ]);
        return setLimit(fork(), requireQuota(quotas, quotaId), options.cloud ?? ids.cloudId, limit);
      },
      through: (service) => setThrough(service, { cloudId: options.cloud ?? service.cloudId, quotaId, limit: toMessage(limit) }),
    });
    process.stdout.write(describeQuota(state));
  },
});

function parseLimit(text: string): NewLimit {
  if (text === 'unlimited' || text === 'default') return text;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new UsageError(`quota set: the limit is a number, "unlimited" or "default", not "${text}"`, { cause: 'quota set' });
}

function toMessage(limit: NewLimit): SetQuotaLimitRequest['limit'] {
  if (limit === 'unlimited') return { $case: 'unlimited', value: {} };
  return limit === 'default' ? { $case: 'reset', value: {} } : { $case: 'value', value: BigInt(limit) };
}

async function setThrough(service: RunningService, request: SetQuotaLimitRequest): Promise<QuotaState> {
  const { QuotaAdminServiceClient } = await import('../../generated/obraz/v1/quota_admin.ts');
  return service.with(QuotaAdminServiceClient, async (client) =>
    fromQuotaMessage(await service.call(client, client.setLimit, request)),
  );
}
