// A limit that somebody has set; without a row the quota's default holds. Limits are set by the operator (`obraz quota set`), never by
// callers of the public API.
import { defineEntity } from '@mikro-orm/core';
import { instant, int8, text } from '../db/columns.ts';

const QuotaLimitSchema = defineEntity({
  name: 'QuotaLimit',
  tableName: 'quota_limits',
  properties: {
    cloudId: text().primary(),
    quotaId: text().primary(),
    /** The limit, in the quota's unit; null: no limit. */
    value: int8().nullable(),
    modifiedAt: instant(),
  },
});

export class QuotaLimit extends QuotaLimitSchema.class {}
QuotaLimitSchema.setClass(QuotaLimit);
export { QuotaLimitSchema };
