// No limits in the cloud of the first start, as the operator sets that: what a test makes is then not bounded by what clouds get by default.
// That of optimized images stays: it says whether there are any at all.
import { Metadata, credentials } from '@grpc/grpc-js';
import { QuotaAdminServiceClient } from '../../generated/obraz/v1/quota_admin.ts';
import { pooledImagesQuota } from '../../src/images/image-quotas.ts';
import { quotas } from '../../src/quotas.ts';
import { unary } from './client.ts';
import type { Obraz } from './obraz.ts';

export async function raiseLimits(obraz: Obraz): Promise<void> {
  const { addresses, cloud_id: cloudId } = await obraz.bootstrap();
  const { grpc: address }: Partial<typeof addresses> = addresses;
  // A process that serves no API shares the limits of those that do.
  if (address === undefined) return;
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${await obraz.token()}`);
  const admin = new QuotaAdminServiceClient(address, credentials.createInsecure());
  try {
    const limit = { $case: 'unlimited', value: {} } as const;
    const raised = quotas.filter((quota) => quota !== pooledImagesQuota);
    await Promise.all(raised.map(({ id: quotaId }) => unary(admin, admin.setLimit, { cloudId, quotaId, limit }, metadata)));
  } finally {
    admin.close();
  }
}
