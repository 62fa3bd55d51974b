import type { QuotaLimit as QuotaLimitMessage } from '../../generated/yandex/cloud/quotamanager/v1/quota_limit_service.ts';
import type { QuotaState } from './limits.ts';

export const toQuotaLimitMessage = ({ quotaId, limit, usage }: QuotaState): QuotaLimitMessage => ({ quotaId, limit, usage });
