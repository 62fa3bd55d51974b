// What the hot methods ask the database is answered by indexes, however many images there are: every statement that they send is
// explained, with authorization by roles as in the service.
import { expect } from 'chai';
import { Client } from 'pg';
import { AccessControl } from '../../../src/iam/access-control.ts';
import { updateBindings } from '../../../src/iam/access-bindings.ts';
import type { Role } from '../../../src/iam/roles.ts';
import type { Call } from '../../../src/iam/call.ts';
import type { Resource } from '../../../src/iam/resource.ts';
import { query } from '../../../src/db/bound-query.ts';
import { ListImagesRequest } from '../../../generated/yandex/cloud/compute/v1/image_service.ts';
import { CreateDiskRequest } from '../../../generated/yandex/cloud/compute/v1/disk_service.ts';
import { ResourcesKit } from '../../support/resources-kit.ts';

interface Statement {
  text: string;
  values: unknown[];
}

/** Statements of every connection of this process while `body` runs. */
async function statementsOf(body: () => Promise<unknown>): Promise<Statement[]> {
  const seen: Statement[] = [];
  const original = Client.prototype.query;
  // oxlint-disable-next-line typescript/no-explicit-any -- it has a dozen overloads, all of which go through here
  Client.prototype.query = function hooked(this: Client, ...args: any[]): any {
    const [first, second] = args as [string | { text: string; values?: unknown[] }, unknown];
    const text = typeof first === 'string' ? first : first.text;
    const values = Array.isArray(second) ? second : typeof first === 'string' ? [] : (first.values ?? []);
    seen.push({ text, values });
    return (original as (...given: unknown[]) => unknown).apply(this, args);
  } as typeof original;
  try {
    await body();
  } finally {
    Client.prototype.query = original;
  }
  return seen;
}

describe('Queries of the hot methods', function () {
  this.timeout(120_000);
  const reader = { id: 'ajereader', type: 'serviceAccount' };
  const stranger = { id: 'ajestranger', type: 'serviceAccount' };
  let kit: ResourcesKit;
  let access: AccessControl;
  let imageId: string;
  const folderCount = 200;

  before(async () => {
    kit = await ResourcesKit.open();
    access = new AccessControl({ fork: kit.fork });
    const disk = await kit.createDisk();
    const image = await kit.createImage({ source: { $case: 'diskId', value: disk.id }, name: 'own', family: 'family' });
    imageId = image.id;
    const fill = (sql: string, values: unknown[] = []) => query(kit.fork(), sql, values);
    await fill(
      `insert into folders (id, cloud_id, created_at, name, description, labels, status)
       select 'b1gfolder' || n, $1, now(), 'folder-' || n, '', '{}', 'ACTIVE' from generate_series(1, $2) n`,
      [kit.cloudId, folderCount],
    );
    await fill(
      `insert into images (id, folder_id, created_at, name, description, labels, family, size, storage_size, min_disk_size, product_ids,
         status, os, hardware_generation, pooled)
       select 'fd8other' || n, case when n % 2 = 0 then $2 else 'b1gfolder' || n % $3 end, created_at + n * interval '1 second', 'other-' || n,
         '', labels, 'family-' || n % 50, size, storage_size, min_disk_size, product_ids, status, os, hardware_generation, pooled
       from images, generate_series(1, 40000) n where id = $1`,
      [imageId, kit.folderId, folderCount],
    );
    await fill(
      `insert into access_bindings (resource_kind, resource_id, role_id, subject_type, subject_id, position)
       select 'compute.image', 'fd8other' || n, 'compute.images.user', 'serviceAccount', 'ajesubject' || n % 5000, 1
       from generate_series(1, 20000) n`,
    );
    await fill(
      `insert into operations (id, folder_id, resource_id, resource_kind, description, created_at, created_by, modified_at, metadata_type,
         metadata, done, error, response_type, response, cancellable, bytes_done, bytes_total, bytes_per_second, phase)
       select o.id || n, folder_id, 'fd8other' || n, resource_kind, description, created_at, created_by, modified_at, metadata_type, metadata,
         done, error, response_type, response, cancellable, bytes_done, bytes_total, bytes_per_second, phase
       from operations o, generate_series(1, 20000) n where resource_id = $1`,
      [imageId],
    );
    for (const table of ['images', 'folders', 'access_bindings', 'operations']) await fill(`analyze ${table}`);
    await bind({ kind: 'resource-manager.folder', id: kit.folderId }, 'compute.editor', reader.id);
    await bind({ kind: 'compute.image', id: imageId }, 'compute.images.user', stranger.id);
  });

  after(() => kit?.[Symbol.asyncDispose]());

  const bind = (resource: Resource, roleId: Role, id: string) =>
    kit
      .fork()
      .transactional((em) =>
        updateBindings(em, resource, [{ action: 'ADD', binding: { roleId, subject: { id, type: 'serviceAccount' } } }]),
      );

  const call = (subject: Call['subject'] = reader) => {
    access.forget();
    return kit.call({ subject, access });
  };

  const list = (parts: Partial<ListImagesRequest> = {}) =>
    ListImagesRequest.fromPartial({ folderId: kit.folderId, pageSize: 100n, ...parts });

  const methods: [title: string, body: () => Promise<unknown>][] = [
    ['Get by a role on the folder', () => kit.images.get({ imageId }, call())],
    ['Get by a role on the image', () => kit.images.get({ imageId }, call(stranger))],
    ['List', () => kit.images.list(list(), call())],
    ['List of what is shared', () => kit.images.list(list(), call(stranger))],
    ['List by name, as the SDKs resolve names', () => kit.images.list(list({ filter: 'name = "other-77"' }), call())],
    ['GetLatestByFamily', () => kit.images.getLatestByFamily({ folderId: kit.folderId, family: 'family-8' }, call())],
    [
      'GetLatestByFamily of what is shared',
      () => kit.images.getLatestByFamily({ folderId: kit.folderId, family: 'family' }, call(stranger)),
    ],
    ['Create of an image', () => kit.makeImage({ name: 'made', source: { $case: 'imageId', value: imageId } }, call())],
    [
      'Create of a disk',
      () =>
        kit.disks.create(
          CreateDiskRequest.fromPartial({
            folderId: kit.folderId,
            zoneId: 'ru-central1-a',
            size: 64n * 1024n * 1024n,
            source: { $case: 'imageId', value: imageId },
          }),
          call(),
        ),
    ],
    ['ListOperations', () => kit.images.listOperations({ imageId, pageSize: 100n, pageToken: '' }, call())],
    ['ListAccessBindings', () => kit.images.listAccessBindings({ resourceId: imageId, pageSize: 0n, pageToken: '' }, call())],
  ];

  for (const [title, body] of methods) {
    it(`${title}: by indexes alone`, async () => {
      const statements = (await statementsOf(body)).filter(({ text }) => /^\s*(select|update|delete|with)\b/i.test(text));
      const onLargeTables = statements.filter(({ text }) => /\b"?(images|access_bindings|operations)"?\b/.test(text));
      expect(onLargeTables.length, 'statements').to.be.greaterThan(0);
      for (const { text, values } of onLargeTables) {
        const [row] = await query<{ 'QUERY PLAN': [{ Plan: Plan }] }>(kit.fork(), `explain (format json) ${text}`, values);
        const scanned = sequentialScans(row!['QUERY PLAN'][0].Plan).filter((table) => table !== 'folders' && table !== 'clouds');
        expect(scanned, text).to.deep.equal([]);
      }
    });
  }
});

interface Plan {
  'Node Type': string;
  'Relation Name'?: string;
  Plans?: Plan[];
}

const sequentialScans = (plan: Plan): string[] => [
  ...(plan['Node Type'] === 'Seq Scan' ? [plan['Relation Name']!] : []),
  ...(plan.Plans ?? []).flatMap(sequentialScans),
];
