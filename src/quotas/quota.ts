// What a quota is. Each resource declares its own beside its entity (`src/images/image-quotas.ts`) and reserves it in the transaction that
// makes the row; usage is always what the rows say, so nothing has to be given back: it is released when the row goes.
import type { EntityManager } from '@mikro-orm/postgresql';

export interface Quota {
  /** `compute.diskPools.count`: the service, what is counted, the unit. `count` is things, `size` bytes. */
  id: string;
  /** Of a cloud whose limit nobody has set. */
  defaultLimit: number;
  /** What the cloud uses now, read from the rows of the resource. */
  usage(em: EntityManager, cloudId: string): Promise<number>;
}

/** The service that keeps a quota: what stands before the first dot of its id. */
export const serviceOf = ({ id }: Quota): string => id.slice(0, id.indexOf('.'));
