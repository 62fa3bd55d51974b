// ImageService through the real service and a grpc-js client with the project's stubs.
import { randomUUID } from 'node:crypto';
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { AccessBindingsOperationResult } from '../../generated/yandex/cloud/access/access.ts';
import { PCITopology } from '../../generated/yandex/cloud/compute/v1/hardware_generation.ts';
import type { Image } from '../../generated/yandex/cloud/compute/v1/image.ts';
import {
  type CreateImageRequest,
  type ListImagesRequest,
  type ListImagesResponse,
  UpdateImageRequest,
} from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import type { Operation } from '../../generated/yandex/cloud/operation/operation.ts';
import { BadRequest } from '../../generated/google/rpc/error_details.ts';
import { Status } from '../../generated/google/rpc/status.ts';
import { imageIdOf, ObrazClient, unary } from '../support/client.ts';
import { Obraz } from '../support/obraz.ts';
import { startWebServer } from '../support/web-server.ts';

const MiB = 1024 * 1024;

describe('ImageService end to end', function () {
  this.timeout(120_000);
  let obraz: Obraz;
  let client: ObrazClient;
  /** A READY image of 8 MiB that nothing changes. */
  let source: Image;

  before(async () => {
    obraz = await Obraz.start();
    client = await ObrazClient.of(obraz);
    await using web = await startWebServer({ content: Buffer.alloc(8 * MiB, 's') });
    source = await client.import({
      name: 'source',
      productIds: ['f2eproduct'],
      os: { type: 2, nvidia: undefined },
      hardwareGeneration: { features: { $case: 'legacyFeatures', value: { pciTopology: PCITopology.PCI_TOPOLOGY_V2 } } },
      source: { $case: 'uri', value: web.url() },
    });
  });

  after(async () => {
    client?.[Symbol.dispose]();
    await obraz?.[Symbol.asyncDispose]();
  });

  const copy = (request: Partial<CreateImageRequest> = {}): Promise<Image> =>
    client.import({ source: { $case: 'imageId', value: source.id }, ...request });

  const failure = (promise: Promise<unknown>): Promise<ServiceError> =>
    promise.then(
      (answer) => {
        throw new Error(
          `was answered: ${JSON.stringify(answer, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))}`,
        );
      },
      (error: ServiceError) => error,
    );

  const list = (request: Partial<ListImagesRequest> = {}): Promise<ListImagesResponse> =>
    unary(
      client.images,
      client.images.list,
      { folderId: client.folderId, pageSize: 0n, pageToken: '', filter: '', orderBy: '', ...request },
      client.metadata,
    );

  const update = async (request: Partial<UpdateImageRequest>): Promise<Image> =>
    client.image(
      await unary(client.images, client.images.update, UpdateImageRequest.fromPartial(request as never), client.metadata),
    );

  /** Every field that the answer's BadRequest names. */
  const violatedFields = (error: ServiceError): string[] => {
    const [bytes] = error.metadata.get('grpc-status-details-bin');
    const details = Status.decode(bytes as Buffer).details.find((detail) => detail.typeUrl.endsWith('google.rpc.BadRequest'));
    return BadRequest.decode(details!.value).fieldViolations.map((violation) => violation.field);
  };

  describe('Create from an image', () => {
    it('is done at once, shares the bytes and inherits what the request leaves out', async () => {
      const operation = await client.createImage({
        name: 'copy',
        labels: { a: '' },
        source: { $case: 'imageId', value: source.id },
      });
      expect(operation.done).to.equal(true);
      expect(operation).to.include({ description: 'Create image' });
      expect(operation.metadata?.typeUrl).to.equal('type.googleapis.com/yandex.cloud.compute.v1.CreateImageMetadata');
      const image = await client.image(operation);
      expect(image.id).to.equal(imageIdOf(operation));
      expect(image).to.deep.include({ name: 'copy', family: '', labels: { a: '' }, productIds: ['f2eproduct'] });
      expect(image.os).to.deep.equal(source.os);
      expect(image.hardwareGeneration).to.deep.equal(source.hardwareGeneration);
      expect([image.size, image.storageSize, image.minDiskSize]).to.deep.equal([
        source.size,
        source.storageSize,
        source.minDiskSize,
      ]);
      expect(await client.getImage(image.id)).to.deep.equal(image);
    });

    it('takes another hardware generation and OS without changing the source', async () => {
      const image = await copy({
        hardwareGeneration: { features: { $case: 'generation2Features', value: {} } },
        os: { type: 1, nvidia: undefined },
      });
      expect(image.hardwareGeneration?.features?.$case).to.equal('generation2Features');
      expect(image.os?.type).to.equal(1);
      const updated = await update({ imageId: image.id, description: 'x' });
      expect(updated.hardwareGeneration).to.deep.equal(image.hardwareGeneration);
      expect(await client.getImage(source.id)).to.deep.equal(source);
    });

    it('takes zeros as unset: min_disk_size 0 and os.type 0, as Terraform sends them', async () => {
      const image = await copy({ minDiskSize: 0n, os: { type: 0, nvidia: undefined } });
      expect(image.os?.type).to.equal(2);
      expect(image.minDiskSize).to.equal(source.minDiskSize);
    });

    it('refuses a min_disk_size below the size with the documented text', async () => {
      const error = await failure(copy({ minDiskSize: BigInt(4 * MiB) }));
      expect(error.code).to.equal(status.INVALID_ARGUMENT);
      expect(error.details).to.equal(`Minimal disk size should be greater or equal than ${8 * MiB}`);
    });
  });

  describe('refusals of Create', () => {
    const cases: [string, Partial<CreateImageRequest>, number, RegExp][] = [
      ['no source', { source: undefined }, status.INVALID_ARGUMENT, /exactly one of/],
      ['an unknown image', { source: { $case: 'imageId', value: 'fd8nothere' } }, status.NOT_FOUND, /Image fd8nothere not found/],
      ['a disk', { source: { $case: 'diskId', value: 'epdnothere' } }, status.NOT_FOUND, /Disk epdnothere not found/],
      ['a snapshot', { source: { $case: 'snapshotId', value: 'fd8nothere' } }, status.NOT_FOUND, /Snapshot fd8nothere not found/],
      ['an unknown folder', { folderId: 'b1gnothere' }, status.NOT_FOUND, /b1gnothere/],
      ['pooled', { pooled: true }, status.RESOURCE_EXHAUSTED, /^Limit compute\.diskPools\.count exceeded$/],
      ['a file URI', { source: { $case: 'uri', value: 'file:///etc/passwd' } }, status.INVALID_ARGUMENT, /http/],
      ['a loopback number', { source: { $case: 'uri', value: 'http://2130706433/x' } }, status.INVALID_ARGUMENT, /uri/],
      ['a metadata address', { source: { $case: 'uri', value: 'http://169.254.169.254/' } }, status.INVALID_ARGUMENT, /169\.254/],
    ];
    for (const [what, request, code, text] of cases) {
      it(`says what is wrong with ${what}`, async () => {
        const error = await failure(client.createImage({ source: { $case: 'imageId', value: source.id }, ...request }));
        expect(error.code).to.equal(code);
        expect(error.details).to.match(text);
      });
    }

    it('names every violated rule at once', async () => {
      const error = await failure(
        client.createImage({
          name: 'Bad Name',
          description: 'd'.repeat(257),
          labels: { Bad: 'x' },
          family: 'a',
          minDiskSize: 10n,
          source: { $case: 'imageId', value: 'i'.repeat(51) },
        }),
      );
      expect(error.code).to.equal(status.INVALID_ARGUMENT);
      expect(violatedFields(error)).to.have.members([
        'name',
        'description',
        'labels["Bad"]',
        'family',
        'min_disk_size',
        'image_id',
      ]);
    });

    it('keeps names unique in a folder when they are not empty, also in a race', async () => {
      const outcomes = await Promise.allSettled(
        Array.from({ length: 10 }, () =>
          client.createImage({ name: 'only-one', source: { $case: 'imageId', value: source.id } }),
        ),
      );
      const failures = outcomes
        .filter((outcome) => outcome.status === 'rejected')
        .map((outcome) => (outcome.reason as ServiceError).code);
      expect(failures).to.deep.equal(Array.from({ length: 9 }, () => status.ALREADY_EXISTS));
      await copy();
      await copy();
    });
  });

  describe('Get', () => {
    it('answers NOT_FOUND for an unknown id and INVALID_ARGUMENT for none', async () => {
      expect(await failure(client.getImage('fd8nothere'))).to.include({
        code: status.NOT_FOUND,
        details: 'Image fd8nothere not found',
      });
      expect((await failure(client.getImage(''))).code).to.equal(status.INVALID_ARGUMENT);
    });

    it('answers UNAUTHENTICATED with the documented text for a missing, forged or foreign token', async () => {
      const token = String(client.metadata.get('authorization')[0]);
      const forged = `${token.slice(0, -4)}AAAA`;
      for (const value of [
        undefined,
        'Bearer ',
        'Bearer x',
        'Basic abc',
        forged,
        'Bearer t1.abc.def',
        `Bearer t1.${'9'.repeat(9000)}`,
      ]) {
        const metadata = new Metadata();
        if (value !== undefined) metadata.set('authorization', value);
        const error = await failure(unary(client.images, client.images.get, { imageId: source.id }, metadata));
        expect(error, String(value).slice(0, 30)).to.include({
          code: status.UNAUTHENTICATED,
          details: 'Token is invalid or has expired.',
        });
      }
    });
  });

  describe('families', () => {
    it('answers the newest READY image of the family in that folder', async () => {
      const latest = (family: string, folderId = client.folderId) =>
        unary(client.images, client.images.getLatestByFamily, { folderId, family }, client.metadata);
      await copy({ family: 'a-family' });
      const second = await copy({ family: 'a-family' });
      expect(await latest('a-family')).to.deep.equal(second);
      await using web = await startWebServer({ content: Buffer.alloc(4 * MiB), behaviour: { silent: true } });
      const creating = await client.createImage({ family: 'a-family', source: { $case: 'uri', value: web.url() } });
      expect((await latest('a-family')).id).to.equal(second.id);
      await client.wait(await client.cancel(creating.id));
      expect((await failure(latest('a-family', 'standard-images'))).code).to.equal(status.NOT_FOUND);
      expect((await failure(latest('no-such-family'))).code).to.equal(status.NOT_FOUND);
    });

    it('keeps one family name in two folders as two families', async () => {
      const elsewhere = await copy({ folderId: 'standard-images', family: 'shared-name' });
      const here = await copy({ family: 'shared-name' });
      const latest = (folderId: string) =>
        unary(client.images, client.images.getLatestByFamily, { folderId, family: 'shared-name' }, client.metadata);
      expect((await latest('standard-images')).id).to.equal(elsewhere.id);
      expect((await latest(client.folderId)).id).to.equal(here.id);
    });
  });

  describe('List', () => {
    const family = 'listed';
    let names: string[];

    before(async () => {
      names = Array.from({ length: 7 }, (_, index) => `listed-${index}`);
      for (const name of names) await copy({ name, family });
    });

    const all = async (request: Partial<ListImagesRequest>): Promise<Image[]> => {
      const images: Image[] = [];
      let pageToken = '';
      do {
        const page = await list({ ...request, pageToken });
        expect(page.images).not.to.have.length(0);
        expect(page.nextPageToken.length).to.be.at.most(100);
        images.push(...page.images);
        pageToken = page.nextPageToken;
      } while (pageToken !== '');
      return images;
    };

    for (const orderBy of ['', 'name', 'name desc', 'createdAt desc', 'created_at', 'id desc']) {
      it(`pages through every image once, ordered by "${orderBy}"`, async () => {
        const images = await all({ filter: `family = "${family}"`, orderBy, pageSize: 3n });
        expect(images.map((image) => image.name).toSorted()).to.deep.equal(names);
        const ids = images.map((image) => image.id);
        if (orderBy === '') expect(ids).to.deep.equal(ids.toSorted());
        if (orderBy === 'name desc') expect(images.map((image) => image.name)).to.deep.equal(names.toReversed());
      });
    }

    for (const filter of [
      'name = "listed-3"',
      'name="listed-3"',
      "name='listed-3'",
      'name IN ("listed-3")',
      `family="${family}" AND name NOT IN ("listed-0","listed-1","listed-2","listed-4","listed-5","listed-6")`,
    ]) {
      it(`finds by ${filter}`, async () => {
        expect((await list({ filter })).images.map((image) => image.name)).to.deep.equal(['listed-3']);
      });
    }

    it('refuses a filter, an order and a token that it cannot use', async () => {
      const { nextPageToken } = await list({ filter: `family = "${family}"`, pageSize: 2n });
      const bad: Partial<ListImagesRequest>[] = [
        { filter: 'name' },
        { filter: 'colour = "red"' },
        { filter: 'name = listed' },
        { orderBy: 'colour' },
        { orderBy: 'name sideways' },
        { pageToken: 'nonsense' },
        { pageToken: nextPageToken },
        { pageToken: nextPageToken, filter: `family = "${family}"`, orderBy: 'name' },
        { pageSize: 1001n },
        { pageSize: -1n },
      ];
      for (const request of bad) {
        expect(
          (await failure(list(request))).code,
          JSON.stringify(request, (_, v: unknown) => (typeof v === 'bigint' ? Number(v) : v)),
        ).to.equal(status.INVALID_ARGUMENT);
      }
    });

    it('neither repeats nor misses an image while others are created', async () => {
      const listed = new AbortController();
      const creator = (async () => {
        while (!listed.signal.aborted) await copy({ family: 'noise' });
      })();
      const images = await all({ orderBy: 'createdAt', pageSize: 2n, filter: `family = "${family}"` });
      listed.abort();
      await creator;
      expect(images.map((image) => image.name)).to.deep.equal(names);
    });
  });

  describe('Update', () => {
    it('changes only what the mask names', async () => {
      const image = await copy({ name: 'masked', description: 'before', labels: { a: 'b' } });
      const updated = await update({ imageId: image.id, updateMask: ['description'], name: 'ignored', description: 'after' });
      expect(updated).to.deep.equal({ ...image, description: 'after' });
      expect(await update({ imageId: image.id, updateMask: ['labels'], labels: { c: 'd' } })).to.deep.include({
        labels: { c: 'd' },
        name: 'masked',
      });
    });

    it('sets all fields without a mask, the missing ones to their defaults', async () => {
      const image = await copy({ name: 'unmasked', description: 'd', labels: { a: 'b' }, minDiskSize: BigInt(64 * MiB) });
      const updated = await update({ imageId: image.id, name: 'unmasked-2' });
      expect(updated).to.deep.include({ name: 'unmasked-2', description: '', labels: {}, minDiskSize: BigInt(8 * MiB) });
    });

    it('refuses an unknown path, a taken name, and a min_disk_size below the size', async () => {
      const image = await copy({ name: 'refusals' });
      expect((await failure(update({ imageId: image.id, updateMask: ['family'] }))).code).to.equal(status.INVALID_ARGUMENT);
      expect((await failure(update({ imageId: image.id, updateMask: ['name'], name: 'source' }))).code).to.equal(
        status.ALREADY_EXISTS,
      );
      const small = await failure(update({ imageId: image.id, updateMask: ['min_disk_size'], minDiskSize: BigInt(4 * MiB) }));
      expect(small.details).to.match(/Minimal disk size should be greater or equal than 8388608/);
      expect(await client.getImage(image.id)).to.deep.equal(image);
    });
  });

  describe('Delete', () => {
    it('removes the image, frees its name and leaves its copies', async () => {
      const first = await copy({ name: 'to-go' });
      const second = await client.import({ source: { $case: 'imageId', value: first.id } });
      const operation = await client.wait(await client.deleteImage(first.id));
      expect(operation.metadata?.typeUrl).to.match(/DeleteImageMetadata$/);
      expect(operation.result?.$case === 'response' && operation.result.value.typeUrl).to.match(/google\.protobuf\.Empty$/);
      expect((await failure(client.getImage(first.id))).code).to.equal(status.NOT_FOUND);
      expect((await failure(client.deleteImage(first.id))).code).to.equal(status.NOT_FOUND);
      expect((await copy({ name: 'to-go' })).name).to.equal('to-go');
      expect(await client.getImage(second.id)).to.deep.equal(second);
    });
  });

  describe('operations', () => {
    it('answers the first call under one idempotency key, and refuses another request under it', async () => {
      const metadata = client.metadata.clone();
      metadata.set('idempotency-key', randomUUID());
      const request = { name: 'idempotent', source: { $case: 'imageId', value: source.id } } as const;
      const create = (change: Partial<CreateImageRequest> = {}): Promise<Operation> =>
        client.createImage({ ...request, ...change }, metadata);
      const [first, ...others] = await Promise.all([create(), create(), create(), create()]);
      for (const other of others) expect(other.id).to.equal(first.id);
      expect((await create()).id).to.equal(first.id);
      expect((await failure(create({ name: 'another' }))).code).to.equal(status.INVALID_ARGUMENT);
    });

    it('lists the operations of an image, and answers them by id with typed metadata', async () => {
      const image = await copy();
      await update({ imageId: image.id, updateMask: ['description'], description: 'x' });
      const { operations } = await unary(
        client.images,
        client.images.listOperations,
        { imageId: image.id, pageSize: 0n, pageToken: '' },
        client.metadata,
      );
      expect(operations.map((operation) => operation.description)).to.have.members(['Create image', 'Update image']);
      for (const operation of operations) expect(await client.getOperation(operation.id)).to.deep.equal(operation);
      expect((await failure(client.getOperation('fd8nothere'))).code).to.equal(status.NOT_FOUND);
    });
  });

  describe('access bindings', () => {
    it('replaces by Set, changes by Update, and echoes subjects verbatim', async () => {
      const { id: resourceId } = await copy();
      const everybody = { roleId: 'compute.images.user', subject: { id: 'allAuthenticatedUsers', type: 'system' } };
      const somebody = { roleId: 'editor', subject: { id: 'aje-Some.Body', type: 'userAccount' } };
      const bindings = async () =>
        (
          await unary(
            client.images,
            client.images.listAccessBindings,
            { resourceId, pageSize: 0n, pageToken: '' },
            client.metadata,
          )
        ).accessBindings;
      const resultOf = async (operation: Operation) => {
        const done = await client.wait(operation);
        return AccessBindingsOperationResult.decode((done.result as { value: { value: Uint8Array } }).value.value)
          .effectiveDeltas;
      };
      const set = (accessBindings: (typeof everybody)[]) =>
        unary(client.images, client.images.setAccessBindings, { resourceId, accessBindings }, client.metadata);

      expect(await bindings()).to.deep.equal([]);
      const operation = await set([everybody, somebody]);
      expect(operation.metadata?.typeUrl).to.equal('type.googleapis.com/yandex.cloud.access.SetAccessBindingsMetadata');
      expect(await resultOf(operation)).to.have.length(2);
      expect(await bindings()).to.deep.equal([everybody, somebody]);
      const changed = await unary(
        client.images,
        client.images.updateAccessBindings,
        {
          resourceId,
          accessBindingDeltas: [
            { action: 2, accessBinding: somebody },
            { action: 1, accessBinding: everybody },
          ],
        },
        client.metadata,
      );
      expect(await resultOf(changed)).to.deep.equal([{ action: 2, accessBinding: somebody }]);
      await set([]);
      expect(await bindings()).to.deep.equal([]);
      const unknown = await failure(set([{ roleId: 'no.such.role', subject: everybody.subject }]));
      expect(unknown.code).to.equal(status.INVALID_ARGUMENT);
    });
  });
});
