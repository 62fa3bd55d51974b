import { expect } from 'chai';
import { ListImagesRequest } from '../../../generated/yandex/cloud/compute/v1/image_service.ts';
import { query } from '../../../src/db/bound-query.ts';
import { AccessControl } from '../../../src/iam/access-control.ts';
import { setBindings } from '../../../src/iam/access-bindings.ts';
import type { Role } from '../../../src/iam/roles.ts';
import { expectRefusal } from '../../support/call.ts';
import { ResourcesKit } from '../../support/resources-kit.ts';
import { randomFrom, testSeed } from '../../support/sample.ts';

const imageCount = 120;

describe(`Lists of who has no role on the folder (OBRAZ_TEST_SEED=${testSeed})`, () => {
  const stranger = { id: 'ajestranger', type: 'serviceAccount' };
  const everybody = { id: 'allAuthenticatedUsers', type: 'system' };
  let kit: ResourcesKit;
  let access: AccessControl;
  const shared: string[] = [];

  before(async () => {
    kit = await ResourcesKit.open();
    access = new AccessControl({ fork: kit.fork });
    const disk = await kit.createDisk();
    const { id: likeId } = await kit.createImage({ source: { $case: 'diskId', value: disk.id }, name: 'image-0' });
    await query(
      kit.fork(),
      `insert into images (id, folder_id, created_at, name, description, labels, family, size, storage_size, min_disk_size, product_ids,
         status, os, hardware_generation, pooled)
       select 'fd8' || lpad(n::text, 4, '0'), folder_id, created_at + n % 10 * interval '1 second', 'image-' || n, '', labels, 'family', size,
         storage_size, min_disk_size, product_ids, status, os, hardware_generation, pooled
       from images, generate_series(1, $2) n where id = $1`,
      [likeId, imageCount],
    );
    const random = randomFrom(testSeed);
    for (let n = 1; n <= imageCount; n += 1) {
      const id = `fd8${String(n).padStart(4, '0')}`;
      // Some are shared twice over, some by a role that shows nothing.
      const bindings = [
        ...(random() < 0.3 ? [binding('compute.images.user', stranger)] : []),
        ...(random() < 0.2 ? [binding('viewer', everybody)] : []),
        ...(random() < 0.2 ? [binding('compute.disks.user', stranger)] : []),
        ...(random() < 0.2 ? [binding('admin', { id: 'ajeother', type: 'serviceAccount' })] : []),
      ];
      if (bindings.some(({ roleId }) => roleId === 'compute.images.user' || roleId === 'viewer')) shared.push(id);
      await kit.fork().transactional((em) => setBindings(em, { kind: 'compute.image', id }, bindings));
    }
    expect(shared.length).to.be.within(10, imageCount - 10);
  });

  after(() => kit?.[Symbol.asyncDispose]());

  const binding = (roleId: Role, subject: { id: string; type: string }) => ({ roleId, subject });

  const list = async (parts: Partial<ListImagesRequest>): Promise<string[]> => {
    const seen: string[] = [];
    let pageToken = '';
    do {
      const request = ListImagesRequest.fromPartial({ folderId: kit.folderId, pageSize: 7n, ...parts, pageToken });
      const page = await kit.images.list(request, kit.call({ subject: stranger, access }));
      expect(page.images.length, 'no page is empty, and none but the last is short').to.be.greaterThan(0);
      if (page.nextPageToken !== '') expect(page.images).to.have.length(7);
      seen.push(...page.images.map(({ id }) => id));
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    return seen;
  };

  for (const orderBy of ['', 'createdAt desc', 'name']) {
    it(`have each image that is shared with him once, and no other, page by page, ordered by "${orderBy}"`, async () => {
      const seen = await list({ orderBy });
      expect(seen).to.have.length(shared.length);
      expect([...seen].sort()).to.deep.equal([...shared].sort());
    });
  }

  it('are filtered like any other', async () => {
    const [one] = shared;
    expect(await list({ filter: `id = "${one}"` })).to.deep.equal([one]);
  });

  it('show all to who has a role on the folder, and nothing to who has none at all', async () => {
    const reader = { id: 'ajereader', type: 'serviceAccount' };
    await kit
      .fork()
      .transactional((em) =>
        setBindings(em, { kind: 'resource-manager.folder', id: kit.folderId }, [binding('compute.auditor', reader)]),
      );
    const request = ListImagesRequest.fromPartial({ folderId: kit.folderId, pageSize: 1000n });
    const { images } = await kit.images.list(request, kit.call({ subject: reader, access }));
    expect(images).to.have.length(imageCount + 1);
    await query(
      kit.fork(),
      `delete from access_bindings where subject_id = 'allAuthenticatedUsers' and resource_kind = 'compute.image'`,
    );
    access.forget();
    const nobody = { id: 'ajenobody', type: 'serviceAccount' };
    await expectRefusal(
      kit.images.list(request, kit.call({ subject: nobody, access })),
      'PERMISSION_DENIED',
      `Permission denied to folder ${kit.folderId}`,
    );
  });
});
