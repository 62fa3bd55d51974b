// The quotas of the cloud of the first start, through the services of a running Obraz.
import { credentials, type ServiceError, status } from '@grpc/grpc-js';
import { QuotaFailure, type QuotaFailure_Violation } from '../../generated/google/rpc/error_details.ts';
import { Status } from '../../generated/google/rpc/status.ts';
import { QuotaAdminServiceClient } from '../../generated/obraz/v1/quota_admin.ts';
import { QuotaLimitServiceClient } from '../../generated/yandex/cloud/quotamanager/v1/quota_limit_service.ts';
import { type ObrazClient, unary } from './client.ts';
import type { Obraz } from './obraz.ts';

export class QuotaClient implements Disposable {
  readonly cloudId: string;
  readonly #client: ObrazClient;
  readonly #limits: QuotaLimitServiceClient;
  readonly #admin: QuotaAdminServiceClient;

  private constructor(client: ObrazClient, cloudId: string) {
    this.cloudId = cloudId;
    this.#client = client;
    this.#limits = new QuotaLimitServiceClient(client.address, credentials.createInsecure());
    this.#admin = new QuotaAdminServiceClient(client.address, credentials.createInsecure());
  }

  static async of(obraz: Obraz, client: ObrazClient): Promise<QuotaClient> {
    return new QuotaClient(client, (await obraz.bootstrap()).cloud_id);
  }

  /** Usage by id. */
  async usages(): Promise<Record<string, number>> {
    const resource = { id: this.cloudId, type: 'resource-manager.cloud' };
    const request = { resource, service: 'compute', pageSize: 1000n, pageToken: '' };
    const { quotaLimits } = await unary(this.#limits, this.#limits.list, request, this.#client.metadata);
    return Object.fromEntries(quotaLimits.map(({ quotaId, usage }) => [quotaId, usage!]));
  }

  /** Answers what was used when the limit was set. */
  async setLimit(quotaId: string, value: number): Promise<number> {
    const request = { cloudId: this.cloudId, quotaId, limit: { $case: 'value', value: BigInt(value) } } as const;
    return (await unary(this.#admin, this.#admin.setLimit, request, this.#client.metadata)).usage!;
  }

  [Symbol.dispose](): void {
    this.#limits.close();
    this.#admin.close();
  }
}

/** Why a call was refused for a quota. @throws any other error. */
export function quotaFailureOf(error: unknown): QuotaFailure_Violation {
  const { code, metadata, details } = error as ServiceError;
  if (code !== status.RESOURCE_EXHAUSTED) throw error;
  const [bytes] = metadata.get('grpc-status-details-bin');
  const violation = quotaFailureIn(Status.decode(bytes as Buffer));
  if (details !== `Limit ${violation.quotaId} exceeded`) throw error;
  return violation;
}

export function quotaFailureIn({ details }: Status): QuotaFailure_Violation {
  const detail = details.find(({ typeUrl }) => typeUrl.endsWith('/google.rpc.QuotaFailure'));
  if (detail === undefined) throw new Error('there is no QuotaFailure');
  return QuotaFailure.decode(detail.value).violations[0]!;
}
