// The matrix of access for NBD: each role, over a client certificate that names its account, reads, writes and lists in every place.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect } from 'node:tls';
import { wrap } from '@mikro-orm/core';
import { expect } from 'chai';
import { Disk } from '../../../src/disks/disk.entity.ts';
import type { Permission } from '../../../src/iam/permissions.ts';
import { permissionsOf, type Role, roles } from '../../../src/iam/roles.ts';
import { Option, OptionReply } from '../../../src/nbd/protocol.ts';
import { newId } from '../../../src/platform/ids.ts';
import { type Authority, makeAuthority } from '../../support/certificates.ts';
import { infoRequest, NbdClient, request } from '../../support/nbd-client.ts';
import { isLongRun, sampleOf, testSeed } from '../../support/sample.ts';
import { type Place, places, type Target, World } from './world.ts';

type Kind = 'disk' | 'image' | 'snapshot';

const blockBytes = 4096;

describe('The matrix of access over NBD', function () {
  this.timeout(600_000);
  let folder: string;
  let authority: Authority;
  let world: World;
  let address: string;
  /** Disks that are written, one for each place: what is read elsewhere has nothing to commit. */
  const written = new Map<Place, Target>();

  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'obraz-access-'));
    authority = makeAuthority();
    const file = path.join(folder, 'clients.pem');
    await writeFile(file, authority.pem);
    world = await World.make({ environment: { OBRAZ_NBD_CLIENT_CA_FILE: file } });
    address = (await world.obraz.bootstrap()).addresses.nbd!;
    for (const place of places)
      written.set(place, place === 'none' ? world.targets.get(place)! : await world.fresh('disk', place));
  });

  after(async () => {
    await world?.[Symbol.asyncDispose]();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });

  /** Over TLS, as the account of the role. */
  async function signedIn(role: Role | undefined): Promise<NbdClient> {
    const plain = await NbdClient.greeted(address);
    const [answer] = await plain.option(Option.startTls);
    expect(answer!.reply).to.equal(OptionReply.ack);
    plain.socket.removeAllListeners('data');
    const { cert, key } = authority.issue([], undefined, [world.accounts.get(role)!]);
    const socket = connect({ socket: plain.socket, cert, key, rejectUnauthorized: false });
    socket.on('error', () => undefined);
    await new Promise((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('close', () => reject(new Error('closed before TLS was set up')));
    });
    return new NbdClient(socket);
  }

  function heldAt(role: Role | undefined, place: Place): ReadonlySet<Permission> {
    if (place === 'own' || place === 'shared') return permissionsOf(role ?? '');
    return place === 'public' ? permissionsOf('compute.images.user') : new Set();
  }

  const chosen = isLongRun ? [undefined, ...roles] : sampleOf([undefined, ...roles], 6, testSeed);

  it(`lists what may be opened, and nothing else (${chosen.length} roles, seed ${testSeed})`, async () => {
    for (const role of chosen) {
      using client = await signedIn(role);
      const answers = await client.option(Option.list);
      const names = answers.slice(0, -1).map(({ data }) => data.subarray(4, 4 + data.readUInt32BE(0)).toString());
      // In the workshop every account is an editor.
      const expected = [world.workshop.diskId, world.workshop.imageId, world.workshop.snapshotId];
      for (const place of places) {
        const { diskId, imageId, snapshotId } = world.targets.get(place)!;
        const held = heldAt(role, place);
        if (held.has('compute.disks.attach')) expected.push(diskId, written.get(place)!.diskId);
        if (held.has('compute.images.use')) expected.push(imageId);
        if (held.has('compute.snapshots.use')) expected.push(snapshotId);
      }
      expect(names.sort(), role ?? 'nobody').to.deep.equal([...new Set(expected)].sort());
    }
  });

  it('lists what may be opened, however much others have that is newer', async () => {
    const em = world.em();
    const { folderId } = world.targets.get('foreign')!;
    const [like] = await em.find(Disk, { id: world.targets.get('own')!.diskId });
    for (let n = 0; n < 310; n += 1) {
      em.create(Disk, {
        ...wrap(like!).toPOJO(),
        id: newId('disk'),
        folderId,
        name: '',
        createdAt: new Date(Date.now() + 1000),
      } as never);
    }
    await em.flush();
    using client = await signedIn('compute.editor');
    const names = (await client.option(Option.list)).map(({ data }) => data.toString());
    expect(names.some((name) => name.includes(world.targets.get('own')!.diskId))).to.equal(true);
  });

  it('reads and writes what the role allows in each place, and is told the same as over gRPC of the rest', async () => {
    for (const role of chosen) {
      for (const place of places) {
        for (const kind of ['disk', 'image', 'snapshot'] as const) await checkReading(role, place, kind);
        await checkWriting(role, place);
      }
    }
  });

  async function checkReading(role: Role | undefined, place: Place, kind: Kind): Promise<void> {
    const id = world.targets.get(place)![`${kind}Id`];
    using client = await signedIn(role);
    const answers = await client.option(Option.go, infoRequest(`${id}/ro`));
    const where = `${role ?? 'nobody'} reads a ${kind} at ${place}`;
    if (!isOpened(answers, role, place, { id, kind, permission: `compute.${kind}s.use` }, where)) return;
    client.send(request('read', { length: blockBytes }));
    const { error, data } = await client.simpleReply(blockBytes);
    expect(error, where).to.equal(0);
    expect(data.equals(Buffer.alloc(blockBytes)), where).to.equal(true);
    client.send(Buffer.concat([request('write', { length: blockBytes }), Buffer.alloc(blockBytes, 1)]));
    expect((await client.simpleReply()).error, `${where}: a write is EPERM`).to.equal(1);
  }

  async function checkWriting(role: Role | undefined, place: Place): Promise<void> {
    const id = written.get(place)!.diskId;
    using client = await signedIn(role);
    const answers = await client.option(Option.go, infoRequest(id));
    const where = `${role ?? 'nobody'} writes a disk at ${place}`;
    // Of what is no disk the name alone means reading.
    const permission = place === 'none' ? 'compute.disks.use' : 'compute.disks.attach';
    if (!isOpened(answers, role, place, { id, kind: 'disk', permission }, where)) return;
    client.send(Buffer.concat([request('write', { length: blockBytes }), Buffer.alloc(blockBytes, 1)]));
    expect((await client.simpleReply()).error, where).to.equal(0);
    client.send(request('disconnect'));
    await client.closed();
  }

  function isOpened(
    answers: { reply: number; data: Buffer }[],
    role: Role | undefined,
    place: Place,
    { id, kind, permission }: { id: string; kind: Kind; permission: Permission },
    where: string,
  ): boolean {
    const held = heldAt(role, place);
    const { reply, data } = answers.at(-1)!;
    if (held.has(permission)) {
      expect(reply, `${where}: ${data.toString()}`).to.equal(OptionReply.ack);
      return true;
    }
    const isSeen = held.has(`compute.${kind}s.get`);
    expect([reply, data.toString()], where).to.deep.equal(
      isSeen
        ? [OptionReply.errorPolicy, `Permission denied to ${kind} ${id}`]
        : [OptionReply.errorUnknown, `Disk, image or snapshot ${id} not found`],
    );
    return false;
  }
});
