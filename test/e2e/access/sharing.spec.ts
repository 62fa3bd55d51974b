// Sharing as people do it, by the public services alone: what a stranger can do with an image that is shared with everybody, what nobody
// can do with what was learned elsewhere, and how soon a role that is taken away has ended.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ServiceError, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { Client } from 'pg';
import type { Image } from '../../../generated/yandex/cloud/compute/v1/image.ts';
import { UpdateImageRequest } from '../../../generated/yandex/cloud/compute/v1/image_service.ts';
import type { Status } from '../../../generated/google/rpc/status.ts';
import { Accounts, bearer, everybody, type SomeSubject } from '../../support/accounts.ts';
import { imageIdOf, ObrazClient, unary } from '../../support/client.ts';
import { NbdClient, request } from '../../support/nbd-client.ts';
import { Obraz } from '../../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../../support/postgres.ts';
import { rows } from '../../support/slow-import.ts';
import { startWebServer, type WebServer } from '../../support/web-server.ts';

const MiB = 1024 * 1024;
const content = Buffer.alloc(8 * MiB, 'an image of somebody, byte by byte ');
/** Catches hangs: what is promised within seconds. */
const secondsMs = 20_000;

interface Someone {
  subject: SomeSubject;
  client: ObrazClient;
  token: string;
}

describe('Sharing', function () {
  this.timeout(180_000);
  let database: TestDatabase;
  let folder: string;
  let obraz: Obraz;
  let second: Obraz;
  let web: WebServer;
  let accounts: Accounts;
  let owner: Someone;
  let stranger: Someone;
  let image: Image;
  let hidden: Image;
  const clouds: string[] = [];

  before(async () => {
    database = await testDatabase();
    folder = await mkdtemp(path.join(tmpdir(), 'obraz-sharing-'));
    web = await startWebServer({ content });
    const environment = {
      DATABASE_URL: database.url,
      OBRAZ_BLOB_DIR: path.join(folder, 'blobs'),
      OBRAZ_JOB_CONCURRENCY: '1',
    };
    obraz = await Obraz.start({ dataDirectory: path.join(folder, 'first'), environment });
    second = await Obraz.start({
      dataDirectory: path.join(folder, 'second'),
      environment: { ...environment, OBRAZ_ROLES: 'api' },
    });
    accounts = await Accounts.of(obraz);
    const made: Someone[] = [];
    for (const name of ['owner', 'stranger']) {
      const cloud = await accounts.cloud(name);
      clouds.push(cloud.id);
      const { id } = await accounts.folder(cloud.id, 'images');
      const someone = await accounts.account(name, id);
      await accounts.bind('folder', id, 'compute.admin', someone.subject);
      made.push(someone);
    }
    [owner, stranger] = made as [Someone, Someone];
    const source = { $case: 'uri', value: web.url() } as const;
    image = await owner.client.import({ name: 'shared', family: 'shared', source });
    hidden = await owner.client.import({ name: 'hidden', family: 'hidden', source });
    await accounts.bind('image', image.id, 'compute.images.user', everybody);
  });

  after(async () => {
    for (const someone of [owner, stranger]) someone?.client[Symbol.dispose]();
    accounts?.[Symbol.dispose]();
    await second?.[Symbol.asyncDispose]();
    await obraz?.[Symbol.asyncDispose]();
    await web?.[Symbol.asyncDispose]();
    await removeDataFolder(path.join(folder, 'first'));
    await removeDataFolder(folder);
    await database?.dispose();
  });

  const refused = async (call: Promise<unknown>, code: keyof typeof status, text?: string): Promise<void> => {
    const error = await call.then(
      () => undefined,
      (thrown: unknown) => thrown as ServiceError,
    );
    expect(error === undefined ? 'OK' : status[error.code], error?.details).to.equal(code);
    if (text !== undefined) expect(error!.details).to.equal(text);
  };

  const list = (client: ObrazClient, folderId: string) =>
    unary(client.images, client.images.list, { folderId, pageSize: 0n, pageToken: '', filter: '', orderBy: '' }, client.metadata);

  const latest = (client: ObrazClient, folderId: string, family: string) =>
    unary(client.images, client.images.getLatestByFamily, { folderId, family }, client.metadata);

  async function within(what: string, isSo: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + secondsMs;
    while (!(await isSo())) {
      if (Date.now() > deadline) throw new Error(`${what}: not within ${secondsMs} ms`);
      await sleep(50);
    }
  }

  const isRefused = (call: Promise<unknown>): Promise<boolean> =>
    call.then(
      () => false,
      () => true,
    );

  it('shows a stranger the image, and nothing else of the folder', async () => {
    const { client } = stranger;
    expect((await client.getImage(image.id)).name).to.equal('shared');
    expect((await list(client, image.folderId)).images.map(({ id }) => id)).to.deep.equal([image.id]);
    expect((await latest(client, image.folderId, 'shared')).id).to.equal(image.id);
    await refused(
      latest(client, image.folderId, 'hidden'),
      'NOT_FOUND',
      `Folder ${image.folderId} has no READY image of family "hidden"`,
    );
    await refused(client.getImage(hidden.id), 'NOT_FOUND', `Image ${hidden.id} not found`);
    expect((await list(owner.client, image.folderId)).images).to.have.length(2);
  });

  it('lets him make a disk, an image and a snapshot of it in his own folder, with its bytes, and read it over NBD', async () => {
    const { client } = stranger;
    const source = { $case: 'imageId', value: image.id } as const;
    const disk = await client.disk({ source, size: image.minDiskSize });
    expect(disk.source?.value).to.equal(image.id);
    const copy = await client.import({ source });
    expect(copy.size).to.equal(image.size);
    await client.snapshot({ diskId: disk.id });
    for (const id of [image.id, disk.id, copy.id]) {
      using reader = await openForReading(client, id);
      expect((await read(reader)).equals(content.subarray(0, MiB)), id).to.equal(true);
    }
  });

  it('lets him change nothing of it, and tells him nothing of who else may use it', async () => {
    const { client } = stranger;
    const { images, metadata } = client;
    const denied = `Permission denied to image ${image.id}`;
    const update = UpdateImageRequest.fromPartial({ imageId: image.id, updateMask: ['name'], name: 'mine' });
    await refused(unary(images, images.update, update, metadata), 'PERMISSION_DENIED', denied);
    await refused(client.deleteImage(image.id), 'PERMISSION_DENIED', denied);
    const bindings = { resourceId: image.id, pageSize: 0n, pageToken: '', privateCall: false };
    await refused(unary(images, images.listAccessBindings, bindings, metadata), 'PERMISSION_DENIED', denied);
    const set = { resourceId: image.id, accessBindings: [], privateCall: false };
    await refused(unary(images, images.setAccessBindings, set, metadata), 'PERMISSION_DENIED', denied);
    const delta = { action: 1, accessBinding: { roleId: 'admin', subject: { ...stranger.subject } } } as const;
    const changed = { resourceId: image.id, accessBindingDeltas: [delta], privateCall: false };
    await refused(unary(images, images.updateAccessBindings, changed, metadata), 'PERMISSION_DENIED', denied);
    const operations = { imageId: image.id, pageSize: 0n, pageToken: '' };
    await refused(unary(images, images.listOperations, operations, metadata), 'PERMISSION_DENIED', denied);
    expect((await owner.client.getImage(image.id)).name).to.equal('shared');
  });

  it('opens nothing to who has learned an id, a hash or a token of a page', async () => {
    const { client } = stranger;
    const ownDisk = await owner.client.disk({ source: { $case: 'imageId', value: hidden.id }, size: hidden.minDiskSize });
    const ownSnapshot = await owner.client.snapshot({ diskId: ownDisk.id });
    const operation = await owner.client.createDisk();
    const [stored] = await rows<{ root: string }>(database.url, 'select layer_root as root from images where id = $1', [
      hidden.id,
    ]);
    for (const id of [hidden.id, stored!.root, `${hidden.id}/ro`, operation.id]) {
      await refused(client.getImage(id), id.length > 50 ? 'INVALID_ARGUMENT' : 'NOT_FOUND');
    }
    const sources = [
      { $case: 'imageId', value: hidden.id },
      { $case: 'snapshotId', value: ownSnapshot.id },
      { $case: 'diskId', value: ownDisk.id },
    ] as const;
    for (const source of sources) await refused(client.createImage({ source }), 'NOT_FOUND');
    for (const source of sources.slice(0, 2)) {
      await refused(client.createDisk({ source: source as (typeof sources)[0], size: hidden.minDiskSize }), 'NOT_FOUND');
    }
    await refused(client.createSnapshot({ diskId: ownDisk.id }), 'NOT_FOUND', `Disk ${ownDisk.id} not found`);
    await refused(client.getOperation(operation.id), 'NOT_FOUND', `Operation ${operation.id} not found`);
    await refused(client.cancel(operation.id), 'NOT_FOUND');
    for (const id of [hidden.id, ownDisk.id, ownSnapshot.id]) {
      await refused(client.createTicket(id), 'NOT_FOUND', `Disk, image or snapshot ${id} not found`);
    }
    // A key of another caller's is no key of his: it answers nothing of that call.
    const metadata = bearer(stranger.token);
    metadata.set('idempotency-key', 'the same key');
    const ownMetadata = bearer(owner.token);
    ownMetadata.set('idempotency-key', 'the same key');
    const theirs = await owner.client.createDisk({}, ownMetadata);
    const his = await client.createDisk({}, metadata);
    expect(his.id).not.to.equal(theirs.id);
    // A page of the owner's list goes on for nobody else.
    const page = { folderId: hidden.folderId, pageSize: 1n, pageToken: '', filter: '', orderBy: '' };
    const { images } = owner.client;
    const { nextPageToken } = await unary(images, images.list, page, owner.client.metadata);
    const next = await unary(client.images, client.images.list, { ...page, pageToken: nextPageToken }, client.metadata);
    expect(next.images.filter(({ id }) => id === hidden.id)).to.deep.equal([]);
  });

  for (const [from, to] of [
    [false, true],
    [true, false],
  ] as const) {
    it(`makes ${to ? 'an optimized image of one that is not' : 'an image that is not optimized of one that is'}, in its folder, in another, and in another cloud`, async () => {
      const kind = (pooled: boolean): string => (pooled ? 'pooled' : 'plain');
      const sibling = await accounts.folder(clouds[0]!, `${kind(from)}-to-${kind(to)}`);
      await accounts.bind('folder', sibling.id, 'compute.editor', owner.subject);
      for (const cloudId of clouds) await accounts.raise(cloudId, 'compute.diskPools.count');
      const source = await owner.client.import({ pooled: from, source: { $case: 'imageId', value: image.id } });
      expect(source.pooled).to.equal(from);
      await accounts.bind('image', source.id, 'compute.images.user', stranger.subject);
      const targets: [ObrazClient, string][] = [
        [owner.client, owner.client.folderId],
        [owner.client, sibling.id],
        [stranger.client, stranger.client.folderId],
      ];
      for (const [client, folderId] of targets) {
        const made = await client.import({ folderId, pooled: to, source: { $case: 'imageId', value: source.id } });
        expect(made).to.include({ pooled: to, folderId, size: source.size, storageSize: source.storageSize });
        using reader = await openForReading(client, made.id);
        expect((await read(reader)).equals(content.subarray(0, MiB))).to.equal(true);
      }
    });
  }

  it('shows sessions to those who have them, and to who may see what is done with the resource', async () => {
    const sessions = async (client: ObrazClient, resourceId = '') => {
      const { attachments, metadata } = client;
      return (await unary(attachments, attachments.listSessions, { resourceId }, metadata)).sessions.map(
        ({ subjectId }) => subjectId,
      );
    };
    using _owners = await openForReading(owner.client, image.id);
    using _strangers = await openForReading(stranger.client, image.id);
    expect(await sessions(owner.client, image.id)).to.have.members([owner.subject.id, stranger.subject.id]);
    expect(await sessions(stranger.client, image.id)).to.deep.equal([stranger.subject.id]);
    expect(await sessions(stranger.client)).to.deep.equal([stranger.subject.id]);
  });

  it('neither waits for what may not be seen nor holds it up', async () => {
    const disk = await owner.client.disk();
    await using holding = await heldRow(`select id from disks where id = '${disk.id}' for update`);
    await refused(stranger.client.createImage({ source: { $case: 'diskId', value: disk.id } }), 'NOT_FOUND');
    expect(holding.isHeld).to.equal(true);
  });

  it('ends what is open over NBD within seconds when the role is taken away, and every other use at once', async () => {
    const { client } = stranger;
    await accounts.bind('image', hidden.id, 'compute.images.user', stranger.subject);
    using reader = await openForReading(client, hidden.id);
    expect((await read(reader)).length).to.equal(MiB);
    await accounts.unbind('image', hidden.id, 'compute.images.user', stranger.subject);
    await refused(client.getImage(hidden.id), 'NOT_FOUND');
    await refused(client.createDisk({ source: { $case: 'imageId', value: hidden.id }, size: hidden.minDiskSize }), 'NOT_FOUND');
    await within('the connection has ended', () => isRefused(read(reader)));
  });

  it('ends the tokens, and what they have open, when one is revoked', async () => {
    const token = await accounts.token(stranger.subject.id);
    using client = new ObrazClient(stranger.client.address, token, stranger.client.folderId);
    using reader = await openForReading(client, image.id);
    using elsewhere = new ObrazClient((await second.bootstrap()).addresses.grpc, token, client.folderId);
    expect((await elsewhere.getImage(image.id)).id).to.equal(image.id);
    await accounts.revoke(token);
    await refused(client.getImage(image.id), 'UNAUTHENTICATED', 'Token is invalid or has expired.');
    await within('it is refused by another process', () => isRefused(elsewhere.getImage(image.id)));
    await within('the connection has ended', () => isRefused(read(reader)));
    expect((await stranger.client.getImage(image.id)).id).to.equal(image.id);
  });

  it('counts a change of bindings on other processes within seconds', async () => {
    using elsewhere = new ObrazClient((await second.bootstrap()).addresses.grpc, stranger.token, stranger.client.folderId);
    await refused(elsewhere.getImage(hidden.id), 'NOT_FOUND');
    await accounts.bind('folder', hidden.folderId, 'compute.viewer', stranger.subject);
    expect((await stranger.client.getImage(hidden.id)).id).to.equal(hidden.id);
    await within('it may be seen there', async () => !(await isRefused(elsewhere.getImage(hidden.id))));
    await accounts.unbind('folder', hidden.folderId, 'compute.viewer', stranger.subject);
    await refused(stranger.client.getImage(hidden.id), 'NOT_FOUND');
    await within('it may not be seen there any more', () => isRefused(elsewhere.getImage(hidden.id)));
  });

  it('ends a job that waits when what its call was allowed is taken away', async () => {
    await using slow = await startWebServer({ content });
    slow.behave({ trickle: { bytes: 4096, everyMs: 100 } });
    const source = { $case: 'uri', value: slow.url() } as const;
    // One place for imports: the second waits behind the first.
    const first = await owner.client.createImage({ source });
    const waiting = await stranger.client.createImage({ name: 'waits', source: { $case: 'uri', value: web.url() } });
    await accounts.unbind('folder', stranger.client.folderId, 'compute.admin', stranger.subject);
    try {
      await owner.client.cancel(first.id);
      const ended = await stranger.client.wait(waiting);
      expect(ended.result?.$case).to.equal('error');
      const error = ended.result!.value as Status;
      expect(error.code).to.equal(status.PERMISSION_DENIED);
      expect(error.message).to.equal(`Permission denied to folder ${stranger.client.folderId}`);
      expect(await rows(database.url, 'select id from images where id = $1', [imageIdOf(waiting)])).to.deep.equal([]);
    } finally {
      await accounts.bind('folder', stranger.client.folderId, 'compute.admin', stranger.subject);
    }
  });

  /** A row that a transaction of somebody's holds. */
  async function heldRow(sql: string): Promise<AsyncDisposable & { isHeld: boolean }> {
    const client = new Client({ connectionString: database.url });
    await client.connect();
    await client.query('begin');
    await client.query(sql);
    const held = {
      isHeld: true,
      async [Symbol.asyncDispose]() {
        held.isHeld = false;
        await client.query('rollback');
        await client.end();
      },
    };
    return held;
  }

  async function openForReading(client: ObrazClient, id: string): Promise<NbdClient> {
    const { ticket } = await client.createTicket(id, { readOnly: true });
    return NbdClient.opened((await obraz.bootstrap()).addresses.nbd!, ticket);
  }

  async function read(client: NbdClient): Promise<Buffer> {
    client.send(request('read', { length: MiB }));
    const { error, data } = await client.simpleReply(MiB);
    if (error !== 0) throw new Error(`error ${error}`);
    return data;
  }
});
