// What the commands on quotas share.
import type { QuotaLimit } from '../../generated/yandex/cloud/quotamanager/v1/quota_limit_service.ts';
import type { NewLimit, QuotaState } from '../quotas/limits.ts';
import type { OptionSpec } from './command.ts';

export const quotaCloud = {
  type: 'string',
  value: '<cloud id>',
  help: 'the cloud; by default the one of the first start',
} as const satisfies OptionSpec;

const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** `compute.diskPools.count: 1 of 5`, `compute.images.size: 12 MiB of 1 TiB`: exact, and what `quota set` takes. */
export function describeQuota({ quotaId, usage, limit }: QuotaState): string {
  const [used, most] = [usage, limit].map((value) =>
    value === undefined ? 'unlimited' : isSize(quotaId) ? describeBytes(value) : String(value),
  );
  return `${quotaId}: ${used} of ${most}\n`;
}

const isSize = (quotaId: string): boolean => quotaId.endsWith('.size');

/** In the largest unit that divides it. */
function describeBytes(bytes: number): string {
  let [value, unit] = [bytes, 0];
  while (value > 0 && value % 1024 === 0 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${value} ${units[unit]}`;
}

/** `5`, `500GiB`, `500 GiB`, `unlimited`, `default`; undefined for anything else. A unit is for sizes alone. */
export function parseLimit(quotaId: string, text: string): NewLimit | undefined {
  if (text === 'unlimited' || text === 'default') return text;
  const [, digits, unit] = /^(\d{1,16}) ?(bytes|[KMGT]iB)?$/.exec(text) ?? [];
  if (digits === undefined || (unit !== undefined && !isSize(quotaId))) return undefined;
  const value =
    Number(digits) *
    1024 **
      Math.max(
        0,
        units.findIndex((known) => known === unit),
      );
  return Number.isSafeInteger(value) ? value : undefined;
}

export const fromQuotaMessage = ({ quotaId, limit, usage }: QuotaLimit): QuotaState => ({ quotaId, limit, usage: usage ?? 0 });
