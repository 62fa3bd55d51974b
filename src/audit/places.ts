// Where things are and what they are called, for the paths of events. What a folder, a cloud and an account are called is remembered for a
// few seconds: a change then waits for the database once more, not four times. So an event may show the name that its folder had seconds
// before; ids, and the name of what it is about, are as they are in the transaction.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import type { PathStep } from './event.ts';
import type { AuditedKind } from './event-types.ts';

/** Where it happened, as far as it is known. */
export interface Place {
  /** The folder, or the cloud of what lies in no folder. */
  folderId?: string | undefined;
  kind?: AuditedKind | undefined;
  resourceId?: string | undefined;
  /** The name of what has no row any more, or none yet. */
  resourceName?: string | undefined;
  /** It is new, and called so: its row need not be read. */
  isNew?: boolean;
}

const rememberedMs = 5_000;
const maxRemembered = 1_000;

class Remembered<Value> {
  readonly #values = new Map<string, { value: Value; until: number }>();

  async get(key: string, load: () => Promise<Value>): Promise<Value> {
    const now = performance.now();
    const known = this.#values.get(key);
    if (known !== undefined && known.until > now) return known.value;
    const value = await load();
    if (this.#values.size >= maxRemembered) this.#values.clear();
    this.#values.set(key, { value, until: now + rememberedMs });
    return value;
  }
}

export class Places {
  readonly #containers = new Remembered<PathStep[]>();
  readonly #subjects = new Remembered<string | null>();

  /** From the cloud to the resource, as far as there are such. */
  async pathOf(em: EntityManager, place: Place): Promise<PathStep[]> {
    const { kind, resourceId, folderId } = place;
    if (kind?.table === 'folders' || kind?.table === 'clouds') {
      const found = await containersOf(em, resourceId ?? folderId);
      if (found.length > 0 || resourceId === undefined) return found;
      return [stepOf(kind, resourceId, place.resourceName)];
    }
    const row = resourceId === undefined || place.isNew === true ? undefined : await readRow(em, kind, resourceId);
    const containers = await this.#containersOf(em, folderId ?? row?.folderId);
    if (kind === undefined || resourceId === undefined) return containers;
    return [...containers, stepOf(kind, resourceId, row?.name ?? place.resourceName)];
  }

  async subjectName(em: EntityManager, id: string | undefined): Promise<string | null> {
    if (id === undefined) return null;
    return this.#subjects.get(id, async () => {
      const [row] = await query<{ name: string }>(em, 'select name from service_accounts where id = $1', [id]);
      return row?.name ?? null;
    });
  }

  async #containersOf(em: EntityManager, id: string | undefined): Promise<PathStep[]> {
    return id === undefined ? [] : this.#containers.get(id, () => containersOf(em, id));
  }
}

const stepOf = ({ type }: AuditedKind, resourceId: string, name: string | undefined): PathStep => ({
  resourceType: type,
  resourceId,
  resourceName: name ?? null,
});

interface ContainerRow {
  cloudId: string;
  cloudName: string;
  folderId: string | null;
  folderName: string | null;
}

/** The cloud and the folder of that id, or the cloud of that id. */
async function containersOf(em: EntityManager, id: string | undefined): Promise<PathStep[]> {
  if (id === undefined) return [];
  const [row] = await query<ContainerRow>(
    em,
    `select clouds.id as "cloudId", clouds.name as "cloudName", folders.id as "folderId", folders.name as "folderName"
     from folders join clouds on clouds.id = folders.cloud_id where folders.id = $1
     union all
     select id, name, null, null from clouds where id = $1`,
    [id],
  );
  if (row === undefined) return [];
  const { cloudId, cloudName, folderId, folderName } = row;
  const cloud = { resourceType: 'resource-manager.cloud', resourceId: cloudId, resourceName: cloudName };
  if (folderId === null) return [cloud];
  return [cloud, { resourceType: 'resource-manager.folder', resourceId: folderId, resourceName: folderName }];
}

async function readRow(
  em: EntityManager,
  kind: AuditedKind | undefined,
  id: string,
): Promise<{ name: string; folderId: string } | undefined> {
  if (kind?.table === undefined) return undefined;
  const [row] = await query<{ name: string; folderId: string }>(
    em,
    `select name, folder_id as "folderId" from ${kind.table} where id = $1`,
    [id],
  );
  return row;
}
