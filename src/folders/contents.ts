// What keeps a folder or a cloud from being deleted. A create holds the folder it puts something into (hold-folder.ts), and a delete
// locks it before it counts: so what is counted is all there is, and nothing comes after.
import type { EntityManager } from '@mikro-orm/postgresql';
import { query } from '../db/bound-query.ts';
import { type DomainError, failedPrecondition } from '../platform/errors.ts';

interface Content {
  one: string;
  many: string;
  /** Selects a row for each, by the id of the folder or cloud as `$1`. */
  rows: string;
}

/** By the names of tables: this is not to know what images are. (A test finds a table with a folder that is missing here.) */
export const folderContents: readonly Content[] = [
  { one: 'image', many: 'images', rows: 'select from images where folder_id = $1' },
  { one: 'disk', many: 'disks', rows: 'select from disks where folder_id = $1' },
  { one: 'snapshot', many: 'snapshots', rows: 'select from snapshots where folder_id = $1' },
  { one: 'service account', many: 'service accounts', rows: 'select from service_accounts where folder_id = $1' },
  {
    one: 'running operation',
    many: 'running operations',
    // By way of the jobs, which are few: operations are kept for long.
    rows: 'select from jobs join operations on operations.id = jobs.operation_id where operations.folder_id = $1',
  },
];

const cloudContents: readonly Content[] = [{ one: 'folder', many: 'folders', rows: 'select from folders where cloud_id = $1' }];

/** Counting goes no further: a folder may hold a million of things. */
const mostCounted = 1000;

/** @throws DomainError FAILED_PRECONDITION naming what is in the folder. */
export const assertFolderEmpty = (em: EntityManager, id: string): Promise<void> =>
  assertEmpty(em, folderContents, id, (held) => failedPrecondition(`Folder ${id} holds ${held}: delete or move them first`));

/** @throws DomainError FAILED_PRECONDITION naming what is in the cloud. */
export const assertCloudEmpty = (em: EntityManager, id: string): Promise<void> =>
  assertEmpty(em, cloudContents, id, (held) => failedPrecondition(`Cloud ${id} holds ${held}: delete them first`));

async function assertEmpty(
  em: EntityManager,
  contents: readonly Content[],
  id: string,
  refusal: (held: string) => DomainError,
): Promise<void> {
  const held: string[] = [];
  for (const { one, many, rows } of contents) {
    const [row] = await query<{ count: number }>(
      em,
      `select count(*)::int as count from (${rows} limit ${mostCounted + 1}) as counted`,
      [id],
    );
    const { count } = row!;
    if (count > mostCounted) held.push(`more than ${mostCounted} ${many}`);
    else if (count > 0) held.push(`${count} ${count === 1 ? one : many}`);
  }
  if (held.length > 0) throw refusal(held.join(', '));
}
