// Clients that we did not write: the public npm SDK over TLS, with its own waiter, and grpcurl, which knows nothing but reflection.
// (grpc-js with stubs is images.spec.ts.)
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { status } from '@grpc/grpc-js';
import { errors, Session, waitForOperation } from '@yandex-cloud/nodejs-sdk';
import { Disk as SdkDisk } from '@yandex-cloud/nodejs-sdk/compute-v1/disk';
import {
  CreateDiskMetadata,
  CreateDiskRequest,
  DeleteDiskRequest,
  DiskServiceClient,
  ListDisksRequest,
  UpdateDiskRequest,
} from '@yandex-cloud/nodejs-sdk/compute-v1/disk_service';
import { Image as SdkImage } from '@yandex-cloud/nodejs-sdk/compute-v1/image';
import {
  CreateImageRequest,
  CreateImageMetadata,
  DeleteImageRequest,
  GetImageRequest,
  ImageServiceClient,
  ListImagesRequest,
  UpdateImageRequest,
} from '@yandex-cloud/nodejs-sdk/compute-v1/image_service';
import { Snapshot as SdkSnapshot } from '@yandex-cloud/nodejs-sdk/compute-v1/snapshot';
import {
  CreateSnapshotRequest,
  GetSnapshotRequest,
  SnapshotServiceClient,
} from '@yandex-cloud/nodejs-sdk/compute-v1/snapshot_service';
import { CreateIamTokenRequest, IamTokenServiceClient } from '@yandex-cloud/nodejs-sdk/iam-v1/iam_token_service';
import type { Operation as SdkOperation } from '@yandex-cloud/nodejs-sdk/operation/operation';
import { GetCloudRequest, CloudServiceClient } from '@yandex-cloud/nodejs-sdk/resourcemanager-v1/cloud_service';
import { IamTokenService as SdkTokenService } from '@yandex-cloud/nodejs-sdk/dist/token-service/iam-token-service';
import { expect } from 'chai';
import { grpcurl, requireGrpcurl, shell } from '../support/grpcurl.ts';
import { type Bootstrap, Obraz } from '../support/obraz.ts';
import { startWebServer } from '../support/web-server.ts';

const MiB = 1024 * 1024;

/** What clients look up before they call: facts of the Go, Java, Python SDKs and of Terraform. */
const endpointIds = ['endpoint', 'compute', 'operation', 'iam', 'resource-manager', 'resourcemanager', 'vpc', 'storage', 'kms'];

describe('clients that others wrote', function () {
  this.timeout(60_000);
  let obraz: Obraz;
  let bootstrap: Bootstrap;
  let token: string;
  /** The name in the certificate that users type, with the TLS port. */
  let tlsAddress: string;

  before(async () => {
    obraz = await Obraz.start();
    bootstrap = await obraz.bootstrap();
    token = await obraz.token();
    tlsAddress = `localhost:${bootstrap.addresses.tls.split(':').at(-1)}`;
  });

  after(() => obraz?.[Symbol.asyncDispose]());

  describe('the npm SDK', () => {
    let session: Session;

    before(async () => {
      session = new Session({ iamToken: token, ssl: { rootCerts: await obraz.ca() }, pollInterval: 50 });
    });

    const images = () => session.client(ImageServiceClient, tlsAddress);

    const waited = (operation: SdkOperation): Promise<SdkOperation> => waitForOperation(operation, session, 30_000, tlsAddress);

    const create = async (request: Partial<CreateImageRequest>): Promise<SdkImage> => {
      const operation = await images().create(
        CreateImageRequest.fromPartial({ folderId: bootstrap.folder_id, ...request } as Parameters<
          typeof CreateImageRequest.fromPartial
        >[0]),
      );
      return SdkImage.decode((await waited(operation)).response!.value);
    };

    const failure = (promise: Promise<unknown>): Promise<Error> =>
      promise.then(
        () => {
          throw new Error('the call succeeded');
        },
        (error: Error) => error,
      );

    it('imports from a URL and waits for it with its own waiter', async () => {
      await using web = await startWebServer({ content: Buffer.alloc(5 * MiB, 'sdk') });
      const operation = await images().create(
        CreateImageRequest.fromPartial({ folderId: bootstrap.folder_id, name: 'sdk-import', family: 'sdk', uri: web.url() }),
      );
      const done = await waited(operation);
      const image = SdkImage.decode(done.response!.value);
      expect(CreateImageMetadata.decode(operation.metadata!.value).imageId).to.equal(image.id);
      expect(done.metadata).to.deep.equal(operation.metadata);
      expect(image).to.include({ name: 'sdk-import', status: 2, minDiskSize: 8 * MiB });
      expect(await images().get(GetImageRequest.fromPartial({ imageId: image.id }))).to.deep.equal(image);
    });

    it('hands the failed operation to the caller when the source is missing', async () => {
      await using web = await startWebServer({ content: Buffer.alloc(0), behaviour: { status: 404 } });
      const operation = await images().create(
        CreateImageRequest.fromPartial({ folderId: bootstrap.folder_id, name: 'sdk-missing', uri: web.url() }),
      );
      const rejected = (await waited(operation).then(
        () => undefined,
        (reason: unknown) => reason,
      )) as SdkOperation;
      expect(rejected).to.deep.include({ done: true, id: operation.id });
      expect(rejected.error?.message).to.match(/404/);
    });

    it('finds, changes and deletes an image', async () => {
      await using web = await startWebServer({ content: Buffer.alloc(4 * MiB, 'sdk') });
      const source = await create({ uri: web.url(), name: 'sdk-source' });
      const image = await create({ imageId: source.id, name: 'sdk-copy', labels: { made: 'by-sdk' } });
      const list = (filter: string) =>
        images().list(ListImagesRequest.fromPartial({ folderId: bootstrap.folder_id, pageSize: 100, filter }));
      // As the resolvers of the SDKs send it, with spaces, and as others do, without.
      expect((await list('name = "sdk-copy"')).images).to.deep.equal([image]);
      expect((await list('name="sdk-copy"')).images).to.deep.equal([image]);
      expect((await list('name = "sdk-nothing"')).images).to.deep.equal([]);

      const updated = await waited(
        await images().update(
          UpdateImageRequest.fromPartial({
            imageId: image.id,
            updateMask: { paths: ['description', 'labels'] },
            name: 'not-in-the-mask',
            description: 'changed',
            labels: { now: 'changed' },
          }),
        ),
      );
      expect(SdkImage.decode(updated.response!.value)).to.deep.equal({
        ...image,
        description: 'changed',
        labels: { now: 'changed' },
      });
      await waited(await images().delete(DeleteImageRequest.fromPartial({ imageId: image.id })));
      expect((await list('name = "sdk-copy"')).images).to.deep.equal([]);
      expect(await images().get(GetImageRequest.fromPartial({ imageId: source.id }))).to.deep.equal(source);
    });

    it('makes a disk of an image, grows it, takes a snapshot and goes on from that', async () => {
      await using web = await startWebServer({ content: Buffer.alloc(6 * MiB, 'sdk') });
      const image = await create({ uri: web.url(), name: 'sdk-disk-source' });
      const disks = session.client(DiskServiceClient, tlsAddress);
      const snapshots = session.client(SnapshotServiceClient, tlsAddress);
      const folderId = bootstrap.folder_id;
      const started = await disks.create(
        CreateDiskRequest.fromPartial({ folderId, name: 'sdk-disk', zoneId: 'ru-central1-a', size: 8 * MiB, imageId: image.id }),
      );
      const disk = SdkDisk.decode((await waited(started)).response!.value);
      expect(CreateDiskMetadata.decode(started.metadata!.value).diskId).to.equal(disk.id);
      expect(disk).to.include({ name: 'sdk-disk', status: 2, blockSize: 4096, typeId: 'network-hdd', sourceImageId: image.id });
      expect(disk.diskPlacementPolicy).to.not.equal(undefined);
      const grown = await waited(
        await disks.update(UpdateDiskRequest.fromPartial({ diskId: disk.id, updateMask: { paths: ['size'] }, size: 12 * MiB })),
      );
      expect(SdkDisk.decode(grown.response!.value)).to.deep.equal({ ...disk, size: 12 * MiB });

      const taken = await waited(
        await snapshots.create(CreateSnapshotRequest.fromPartial({ folderId, diskId: disk.id, name: 'sdk-snapshot' })),
      );
      const snapshot = SdkSnapshot.decode(taken.response!.value);
      expect(snapshot).to.include({ sourceDiskId: disk.id, diskSize: 12 * MiB, storageSize: 8 * MiB, status: 2 });
      expect(await snapshots.get(GetSnapshotRequest.fromPartial({ snapshotId: snapshot.id }))).to.deep.equal(snapshot);
      const restored = await create({ snapshotId: snapshot.id, name: 'sdk-restored' });
      expect(restored).to.include({ minDiskSize: 12 * MiB, storageSize: 8 * MiB });

      await waited(await disks.delete(DeleteDiskRequest.fromPartial({ diskId: disk.id })));
      const listed = await disks.list(ListDisksRequest.fromPartial({ folderId, filter: 'name = "sdk-disk"' }));
      expect(listed.disks).to.deep.equal([]);
      expect(await snapshots.get(GetSnapshotRequest.fromPartial({ snapshotId: snapshot.id }))).to.deep.equal(snapshot);
    });

    it('gets the ids of the request before the error, and makes an ApiError of it', async () => {
      const error = await failure(images().get(GetImageRequest.fromPartial({ imageId: 'fd8nothere' })));
      expect(error).to.be.instanceOf(errors.ApiError);
      expect(error.message).to.match(/NOT_FOUND: Image fd8nothere not found/);
      const { requestId, serverTraceId } = error as errors.ApiError;
      expect(requestId).to.match(/^[0-9a-f-]{36}$/);
      expect(serverTraceId).to.match(/./);
    });

    it('does not trust a service whose authority it was not given', async () => {
      const stranger = new Session({ iamToken: token }).client(ImageServiceClient, tlsAddress);
      const error = await failure(stranger.get(GetImageRequest.fromPartial({ imageId: 'fd8nothere' })));
      expect(error.message).to.match(/UNAVAILABLE.*certificate/);
    });

    it('exchanges its own JWT, made with the admin key file, for a token that works', async () => {
      const key = JSON.parse(await readFile(path.join(obraz.dataDirectory, 'admin-key.json'), 'utf8')) as Record<string, string>;
      const credentials = {
        serviceAccountId: key['service_account_id']!,
        accessKeyId: key['id']!,
        privateKey: key['private_key']!,
      };
      const ssl = { rootCerts: await obraz.ca() };
      const noToken = new Session({ iamToken: '', ssl }).client(IamTokenServiceClient, tlsAddress);
      // The SDK exchanges at the public cloud's address, which cannot be set: its JWT is its own, the call is ours.
      const jwt = (new SdkTokenService(credentials) as unknown as { getJwtRequest(): string }).getJwtRequest();
      const { iamToken, expiresAt } = await noToken.create(CreateIamTokenRequest.fromPartial({ jwt }));
      expect(expiresAt!.getTime()).to.be.greaterThan(Date.now());
      const clouds = new Session({ iamToken, ssl }).client(CloudServiceClient, tlsAddress);
      const cloud = await clouds.get(GetCloudRequest.fromPartial({ cloudId: bootstrap.cloud_id }));
      expect(cloud.id).to.equal(bootstrap.cloud_id);

      const [head, , signature] = jwt.split('.');
      const claims = Buffer.from(JSON.stringify({ iss: 'ajeanother' })).toString('base64url');
      const forged = await failure(noToken.create(CreateIamTokenRequest.fromPartial({ jwt: `${head}.${claims}.${signature}` })));
      expect(forged.message).to.match(/UNAUTHENTICATED|INVALID_ARGUMENT/);
    });
  });

  describe('grpcurl', () => {
    before(function () {
      requireGrpcurl(this);
    });

    const plaintext = () => ['-plaintext'];
    const tls = () => ['-cacert', path.join(obraz.dataDirectory, 'ca.pem')];
    const authorized = () => ['-H', `authorization: Bearer ${token}`];

    /** A call over plaintext, with the admin token. */
    const call = (method: string, request: object = {}) =>
      grpcurl(...plaintext(), ...authorized(), '-d', JSON.stringify(request), bootstrap.addresses.grpc, method);

    const answerOf = async <T>(method: string, request: object = {}): Promise<T> => {
      const { code, stdout, stderr } = await call(method, request);
      expect(code, stderr).to.equal(0);
      return JSON.parse(stdout) as T;
    };

    const services = [
      'grpc.health.v1.Health',
      'yandex.cloud.compute.v1.DiskService',
      'yandex.cloud.compute.v1.DiskTypeService',
      'yandex.cloud.compute.v1.ImageService',
      'yandex.cloud.compute.v1.SnapshotService',
      'yandex.cloud.compute.v1.ZoneService',
      'yandex.cloud.endpoint.ApiEndpointService',
      'yandex.cloud.iam.v1.IamTokenService',
      'yandex.cloud.operation.OperationService',
      'yandex.cloud.resourcemanager.v1.CloudService',
      'yandex.cloud.resourcemanager.v1.FolderService',
      'obraz.v1.ProgressService',
    ];

    it('lists and describes the services, over plaintext and TLS', async () => {
      for (const [channel, address] of [
        [plaintext(), bootstrap.addresses.grpc],
        [tls(), tlsAddress],
        [tls(), bootstrap.addresses.tls],
      ] as const) {
        const listed = await grpcurl(...channel, address, 'list');
        expect(listed.stderr).to.equal('');
        expect(listed.stdout.trim().split('\n')).to.include.members(services);
        const methods = await grpcurl(...channel, address, 'list', 'yandex.cloud.compute.v1.ImageService');
        expect(methods.stdout.trim().split('\n')).to.have.length(10);
        const message = await grpcurl(...channel, address, 'describe', 'yandex.cloud.compute.v1.CreateImageRequest');
        expect(message.code, message.stderr).to.equal(0);
        expect(message.stdout).to.match(/string folder_id = 1/);
      }
    });

    for (const version of ['v1', 'v1alpha']) {
      it(`is answered by reflection ${version}`, async () => {
        const protos = path.resolve(import.meta.dirname, '../../node_modules/@grpc/reflection/build/proto');
        const { code, stdout, stderr } = await grpcurl(
          '-plaintext',
          '-import-path',
          protos,
          '-proto',
          `grpc/reflection/${version}/reflection.proto`,
          '-d',
          '{"list_services":"*"} {"file_containing_symbol":"yandex.cloud.compute.v1.ImageService"} {"file_by_filename":"no.proto"}',
          bootstrap.addresses.grpc,
          `grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
        );
        expect(code, stderr).to.equal(0);
        for (const service of services) expect(stdout).to.include(`"${service}"`);
        expect(stdout).to.match(/"fileDescriptorProto"/);
        expect(stdout).to.match(/"errorCode": 5/);
      });
    }

    it('calls over TLS as over plaintext', async () => {
      const body = JSON.stringify({ folder_id: bootstrap.folder_id });
      const method = 'yandex.cloud.resourcemanager.v1.FolderService/Get';
      const overTls = await grpcurl(...tls(), ...authorized(), '-d', body, tlsAddress, method);
      expect(overTls.code, overTls.stderr).to.equal(0);
      expect(overTls.stdout).to.equal((await call(method, { folder_id: bootstrap.folder_id })).stdout);
    });

    it('discovers every endpoint without a token, at the address that it called', async () => {
      for (const [channel, address] of [
        [plaintext(), bootstrap.addresses.grpc],
        [tls(), tlsAddress],
      ] as const) {
        const { code, stdout, stderr } = await grpcurl(...channel, address, 'yandex.cloud.endpoint.ApiEndpointService/List');
        expect(code, stderr).to.equal(0);
        const { endpoints, nextPageToken } = JSON.parse(stdout) as {
          endpoints: { id: string; address: string }[];
          nextPageToken?: string;
        };
        const ids = endpoints.map(({ id }) => id);
        expect(ids).to.include.members(endpointIds);
        expect(new Set(ids).size).to.equal(ids.length);
        expect(new Set(endpoints.map((endpoint) => endpoint.address))).to.deep.equal(new Set([address]));
        expect(nextPageToken).to.equal(undefined);
        const one = await grpcurl(
          ...channel,
          '-d',
          '{"api_endpoint_id":"compute"}',
          address,
          'yandex.cloud.endpoint.ApiEndpointService/Get',
        );
        expect(JSON.parse(one.stdout)).to.deep.equal({ id: 'compute', address });
      }
    });

    it('hears that the service is healthy', async () => {
      for (const service of ['', 'yandex.cloud.compute.v1.ImageService'])
        expect(await answerOf('grpc.health.v1.Health/Check', { service })).to.deep.equal({ status: 'SERVING' });
      expect((await call('grpc.health.v1.Health/Check', { service: 'no.such.Service' })).code).to.equal(64 + status.NOT_FOUND);
    });

    it('prints the details of an error', async () => {
      const { code, stderr } = await call('yandex.cloud.compute.v1.ImageService/Create', {
        folder_id: bootstrap.folder_id,
        name: 'Bad Name',
        description: 'd'.repeat(257),
        image_id: 'fd8nothere',
      });
      expect(code).to.equal(64 + status.INVALID_ARGUMENT);
      expect(stderr).to.match(/Code: InvalidArgument/);
      expect(stderr).to.match(/"@type": "type.googleapis.com\/google.rpc.BadRequest"/);
      expect(stderr).to.match(/"field": "name"/);
      expect(stderr).to.match(/"field": "description"/);
      expect(stderr).to.match(/"@type": "type.googleapis.com\/google.rpc.RequestInfo"/);
    });

    it('is refused without a token, and told UNIMPLEMENTED for what is not served', async () => {
      const list = ['-d', JSON.stringify({ folder_id: bootstrap.folder_id }), bootstrap.addresses.grpc];
      const refused = await grpcurl(...plaintext(), ...list, 'yandex.cloud.compute.v1.ImageService/List');
      expect(refused.code).to.equal(64 + status.UNAUTHENTICATED);
      const unserved = await call('yandex.cloud.compute.v1.SnapshotScheduleService/List', { folder_id: bootstrap.folder_id });
      expect(unserved.code, unserved.stderr).to.equal(64 + status.UNIMPLEMENTED);
    });

    it('is told the zones and the types of disks', async () => {
      type Listed = { zones: { id: string }[]; diskTypes: { id: string; zoneIds: string[] }[] };
      const { zones } = await answerOf<Listed>('yandex.cloud.compute.v1.ZoneService/List');
      expect(zones[0]).to.deep.equal({ id: 'ru-central1-a', regionId: 'ru-central1', status: 'UP' });
      const { diskTypes } = await answerOf<Listed>('yandex.cloud.compute.v1.DiskTypeService/List');
      expect(diskTypes.map(({ id }) => id)).to.include('network-ssd-io-m3');
      expect(diskTypes[0]!.zoneIds).to.deep.equal(zones.map(({ id }) => id));
    });

    it('makes an empty disk, and a snapshot and an image of it', async () => {
      const compute = 'yandex.cloud.compute.v1';
      type Started<Metadata, Response> = { done: boolean; metadata: Metadata; response: Response };
      const size = String(64 * MiB);
      const made = await answerOf<Started<{ diskId: string }, Record<string, unknown>>>(`${compute}.DiskService/Create`, {
        folder_id: bootstrap.folder_id,
        name: 'curl-disk',
        zone_id: 'ru-central1-b',
        type_id: 'network-ssd',
        size,
        block_size: 8192,
      });
      const { diskId } = made.metadata;
      expect(made.done).to.equal(true);
      expect(made.response).to.deep.include({
        id: diskId,
        size,
        blockSize: '8192',
        status: 'READY',
        diskPlacementPolicy: {},
        hardwareGeneration: { legacyFeatures: { pciTopology: 'PCI_TOPOLOGY_V1' } },
      });
      const snapshot = await answerOf<Started<{ snapshotId: string; diskId: string }, Record<string, unknown>>>(
        `${compute}.SnapshotService/Create`,
        { folder_id: bootstrap.folder_id, disk_id: diskId },
      );
      expect(snapshot.metadata.diskId).to.equal(diskId);
      expect(snapshot.response).to.include({ id: snapshot.metadata.snapshotId, diskSize: size, sourceDiskId: diskId });
      const image = await answerOf<Started<object, Record<string, unknown>>>(`${compute}.ImageService/Create`, {
        folder_id: bootstrap.folder_id,
        disk_id: diskId,
      });
      expect(image.response).to.include({ size, minDiskSize: size, status: 'READY' });
      const got = await answerOf<object>(`${compute}.DiskService/Get`, { disk_id: diskId });
      expect({ '@type': 'type.googleapis.com/yandex.cloud.compute.v1.Disk', ...got }).to.deep.equal(made.response);
    });

    it('sees the cloud and both folders', async () => {
      const clouds = 'yandex.cloud.resourcemanager.v1.CloudService';
      const folders = 'yandex.cloud.resourcemanager.v1.FolderService';
      const cloud = await answerOf<{ id: string }>(`${clouds}/Get`, { cloud_id: bootstrap.cloud_id });
      expect((await answerOf<{ clouds: unknown[] }>(`${clouds}/List`)).clouds).to.deep.include(cloud);
      const own = await answerOf<{ id: string; status: string }>(`${folders}/Get`, { folder_id: bootstrap.folder_id });
      expect(own).to.include({ id: bootstrap.folder_id, cloudId: bootstrap.cloud_id, status: 'ACTIVE' });
      const standard = await answerOf<{ id: string; cloudId: string }>(`${folders}/Get`, { folder_id: 'standard-images' });
      expect(standard.id).to.equal('standard-images');
      const listed = await Promise.all(
        [...new Set([bootstrap.cloud_id, standard.cloudId])].map(
          async (cloudId) => (await answerOf<{ folders: { id: string }[] }>(`${folders}/List`, { cloud_id: cloudId })).folders,
        ),
      );
      expect(listed.flat().map(({ id }) => id)).to.have.members([bootstrap.folder_id, 'standard-images']);
      expect((await call(`${folders}/Get`, { folder_id: 'b1gnothere' })).code).to.equal(64 + status.NOT_FOUND);
      expect((await call(`${clouds}/Get`, { cloud_id: 'b1gnothere' })).code).to.equal(64 + status.NOT_FOUND);
    });

    it('runs the line that the service prints at its start', async () => {
      const line = /Try it:\n([\s\S]*?)\n\n/.exec(obraz.output)?.[1];
      expect(line, obraz.output).to.be.a('string');
      const { code, stdout, stderr } = await shell(line!, tmpdir());
      expect(code, stderr).to.equal(0);
      expect(JSON.parse(stdout)).to.be.an('object');
    });
  });
});
