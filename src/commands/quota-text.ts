// What the commands on quotas share.
import type { QuotaLimit } from '../../generated/yandex/cloud/quotamanager/v1/quota_limit_service.ts';
import type { QuotaState } from '../quotas/limits.ts';
import type { OptionSpec } from './command.ts';

export const quotaCloud = {
  type: 'string',
  value: '<cloud id>',
  help: 'the cloud; by default the one of the first start',
} as const satisfies OptionSpec;

/** `compute.diskPools.count: 1 of 5`. */
export const describeQuota = ({ quotaId, usage, limit }: QuotaState): string =>
  `${quotaId}: ${usage} of ${limit ?? 'unlimited'}\n`;

export const fromQuotaMessage = ({ quotaId, limit, usage }: QuotaLimit): QuotaState => ({ quotaId, limit, usage: usage ?? 0 });
