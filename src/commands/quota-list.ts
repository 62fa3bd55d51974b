import { readConfig } from '../config.ts';
import type { QuotaState } from '../quotas/limits.ts';
import { defineCommand, untilInterrupted } from './command.ts';
import { describeQuota, fromQuotaMessage, quotaCloud } from './quota-text.ts';
import { eitherWay, type RunningService } from './running-service.ts';

export const quotaList = defineCommand({
  summary: 'show the limits of a cloud and what is used of them',
  options: { cloud: quotaCloud },
  async run({ environment, options }) {
    const states = await eitherWay(readConfig(environment), untilInterrupted(), {
      async alone({ fork, ids }) {
        const [{ quotaStates }, { quotas }] = await Promise.all([import('../quotas/limits.ts'), import('../quotas.ts')]);
        return quotaStates(fork(), quotas, options.cloud ?? ids.cloudId);
      },
      through: (service) => listThrough(service, options.cloud ?? service.cloudId),
    });
    for (const state of states) process.stdout.write(describeQuota(state));
  },
});

async function listThrough(service: RunningService, cloudId: string): Promise<QuotaState[]> {
  const { QuotaLimitServiceClient } = await import('../../generated/yandex/cloud/quotamanager/v1/quota_limit_service.ts');
  const type = 'resource-manager.cloud';
  const onePage = { pageSize: 1000n, pageToken: '' };
  return service.with(QuotaLimitServiceClient, async (client) => {
    const { services } = await service.call(client, client.listServices, { resourceType: type, ...onePage });
    const states: QuotaState[] = [];
    for (const { id } of services) {
      const request = { resource: { id: cloudId, type }, service: id, ...onePage };
      states.push(...(await service.call(client, client.list, request)).quotaLimits.map(fromQuotaMessage));
    }
    return states;
  });
}
