// Every method × every role × every place: allowed, or the exact status and text. `npm test` calls a seeded part of the cells.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { type Client, type Metadata, Metadata as GrpcMetadata, type MethodDefinition, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { isAboutItself, nounOf, type ResourceKind, seeing } from '../../../src/iam/resource.ts';
import type { Permission } from '../../../src/iam/permissions.ts';
import { permissionsOf, type Role, roles } from '../../../src/iam/roles.ts';
import { loadDescriptors, methodPaths } from '../../../src/transport/descriptors.ts';
import { isLongRun, sampleOf, testSeed } from '../../support/sample.ts';
import { type Row, rows } from './rows.ts';
import { type Place, places, type Target, World } from './world.ts';

interface Cell {
  row: Row;
  role: Role | undefined;
  place: Place;
}

interface Outcome {
  code: string;
  text: string;
  messages: unknown[];
}

type Rpc = MethodDefinition<object, unknown>;

const generated = path.resolve(import.meta.dirname, '../../../generated');
const cellsAtOnce = 12;

/** Of all services of the protos, by full name. */
async function readRpcs(): Promise<Map<string, Rpc>> {
  const found = new Map<string, Rpc>();
  for (const file of readdirSync(generated, { recursive: true, encoding: 'utf8' })) {
    if (!/(^yandex|^obraz).*\.ts$/.test(file)) continue;
    const module = (await import(path.join(generated, file))) as Record<string, unknown>;
    for (const [name, exported] of Object.entries(module)) {
      if (!name.endsWith('Service') || typeof exported !== 'object' || exported === null) continue;
      for (const rpc of Object.values(exported as Record<string, Rpc>)) if (rpc.path) found.set(rpc.path.slice(1), rpc);
    }
  }
  return found;
}

const kinds: Record<NonNullable<Row['names']>, ResourceKind> = {
  image: 'compute.image',
  disk: 'compute.disk',
  snapshot: 'compute.snapshot',
  account: 'iam.serviceAccount',
  key: 'iam.serviceAccount',
  folder: 'resource-manager.folder',
  cloud: 'resource-manager.cloud',
  operation: 'compute.image',
};

/** What the role lets its account do to what the row names, there. */
function heldAt({ row: { names }, role, place }: Cell): ReadonlySet<Permission> {
  const own = permissionsOf(role ?? '');
  const nothing = new Set<Permission>();
  switch (place) {
    case 'own':
      return own;
    case 'shared':
      return names === 'folder' || names === 'cloud' ? nothing : own;
    case 'public':
      return names === 'cloud' ? nothing : permissionsOf('compute.images.user');
    case 'foreign':
    case 'none':
      return nothing;
  }
}

/** What it lets him do to what is shared one by one there. */
const heldOne = (role: Role | undefined, place: Place): ReadonlySet<Permission> =>
  permissionsOf(place === 'public' ? 'compute.images.user' : (role ?? ''));

function idOf({ names }: Row, target: Target): string {
  return names === undefined ? '' : target[`${names}Id`];
}

function expected(cell: Cell, target: Target, world: World): { code: string; text?: string | RegExp } {
  const { row, role, place } = cell;
  const { permission, names, method, allowed = { code: 'OK' } } = row;
  if (row.unimplemented) return { code: 'UNIMPLEMENTED' };
  if (permission === undefined || names === undefined) return allowed;
  if (row.about === 'the installation') {
    return { code: 'PERMISSION_DENIED', text: `Permission denied to cloud ${world.systemCloudId}` };
  }
  const held = heldAt(cell);
  const id = idOf(row, target);
  const kind = kinds[names];
  if (names === 'operation') {
    if (!held.has('compute.operations.get')) return { code: 'NOT_FOUND', text: `Operation ${id} not found` };
    return held.has(permission) ? allowed : { code: 'PERMISSION_DENIED', text: `Permission denied to operation ${id}` };
  }
  if (held.has(permission)) return allowed;
  if (row.isParent) {
    const { showsShared } = row;
    const isShared = place === showsShared?.at && heldOne(role, place).has(showsShared.permission);
    return isShared ? allowed : { code: 'PERMISSION_DENIED', text: `Permission denied to ${nounOf(kind).toLowerCase()} ${id}` };
  }
  if (names === 'key') {
    return held.has('iam.keys.get')
      ? { code: 'PERMISSION_DENIED', text: `Permission denied to service account ${target.accountId}` }
      : { code: 'NOT_FOUND', text: `Key ${id} not found` };
  }
  if (held.has(seeing(kind)))
    return { code: 'PERMISSION_DENIED', text: `Permission denied to ${nounOf(kind).toLowerCase()} ${id}` };
  const noun = method.endsWith('/CreateTicket') ? 'Disk, image or snapshot' : nounOf(kind);
  return { code: 'NOT_FOUND', text: `${noun} ${id} not found` };
}

function call(client: Client, rpc: Rpc, request: object, metadata: Metadata): Promise<Outcome> {
  const { path: method, requestSerialize, responseDeserialize } = rpc;
  return new Promise((resolve) => {
    const messages: unknown[] = [];
    const failed = ({ code, details }: { code: number; details: string }) =>
      resolve({ code: status[code]!, text: details, messages });
    const options = { deadline: Date.now() + 60_000 };
    if (rpc.responseStream) {
      const stream = client.makeServerStreamRequest(method, requestSerialize, responseDeserialize, request, metadata, options);
      stream.on('data', (message: unknown) => messages.push(message));
      stream.on('error', failed);
      stream.on('end', () => resolve({ code: 'OK', text: '', messages }));
    } else {
      client.makeUnaryRequest(method, requestSerialize, responseDeserialize, request, metadata, options, (error, message) =>
        error === null ? resolve({ code: 'OK', text: '', messages: [message] }) : failed(error),
      );
    }
  });
}

/** The whole request, of a part that rows give. */
function complete(rpc: Rpc, part: object): object {
  return { ...rpc.requestDeserialize(Buffer.alloc(0)), ...part };
}

describe('The matrix of access', function () {
  this.timeout(600_000);
  let rpcs: Map<string, Rpc>;
  let world: World;

  before(async () => {
    rpcs = await readRpcs();
    world = await World.make();
  });

  after(() => world?.[Symbol.asyncDispose]());

  it('has a row for every method, and none for a method that is not there', () => {
    // Health and reflection are for everybody.
    const declared = methodPaths(loadDescriptors())
      .map((method) => method.slice(1))
      .filter((method) => !method.startsWith('grpc.'));
    const known = new Set(rows.map(({ method }) => method));
    expect(declared.filter((method) => !known.has(method))).to.deep.equal([]);
    expect([...known].filter((method) => !declared.includes(method))).to.deep.equal([]);
  });

  it('asks nobody without a token for more than a token', async () => {
    for (const row of rows) {
      const rpc = rpcs.get(row.method)!;
      const { code, text } = await call(world.client, rpc, complete(rpc, {}), new GrpcMetadata());
      if (row.open || row.unimplemented) expect(code, row.method).not.to.equal('PERMISSION_DENIED');
      else
        expect({ code, text }, row.method).to.deep.equal({ code: 'UNAUTHENTICATED', text: 'Token is invalid or has expired.' });
    }
  });

  const cells: Cell[] = rows.flatMap((row) =>
    [undefined, ...roles].flatMap((role) =>
      (row.names === undefined || row.about === 'the installation' ? (['own'] as const) : places).map((place) => ({
        row,
        role,
        place,
      })),
    ),
  );
  const chosen = isLongRun ? cells : sampleOf(cells, Math.ceil(cells.length / 16), testSeed);

  it(`answers ${chosen.length} of its ${cells.length} cells as they say (seed ${testSeed})`, async () => {
    const faults: string[] = [];
    const waiting = chosen.values();
    const worker = async (): Promise<void> => {
      for (const cell of waiting) {
        const fault = await check(cell);
        if (fault !== undefined) faults.push(fault);
      }
    };
    await Promise.all(Array.from({ length: cellsAtOnce }, worker));
    expect(faults.slice(0, 40).join('\n')).to.equal('');
  });

  async function check(cell: Cell): Promise<string | undefined> {
    const { row, role, place } = cell;
    const standing = world.targets.get(place)!;
    const wantsOne = row.takesAway !== undefined && place !== 'none' && expected(cell, standing, world).code === 'OK';
    const target = wantsOne ? await world.fresh(row.takesAway!, place) : standing;
    const want = expected(cell, target, world);
    const rpc = rpcs.get(row.method)!;
    const got = await call(world.client, rpc, complete(rpc, row.request(target, world)), world.metadata(role));
    const isWanted =
      got.code === want.code &&
      (want.text === undefined || (typeof want.text === 'string' ? got.text === want.text : want.text.test(got.text)));
    const where = `${row.method}${row.about === undefined ? '' : ` (${row.about})`} as ${role ?? 'nobody'} at ${place}`;
    if (!isWanted) return `${where}: wanted ${want.code} ${want.text ?? ''}, got ${got.code} ${got.text}`;
    if (got.code !== 'OK' || place !== row.showsShared?.at) return undefined;
    const { items, one } = row.showsShared;
    const [answer] = got.messages as [Record<string, unknown>];
    const shown = items === '' ? [answer['id']] : (answer[items] as { id: string }[]).map(({ id }) => id);
    return shown.length === 1 && shown[0] === one(standing) ? undefined : `${where}: shows ${shown.join(', ')}`;
  }

  it('knows what is addressed itself, as authorize does', () => {
    for (const { permission, names, isParent, method } of rows) {
      if (permission === undefined || names === undefined || names === 'operation' || permission.startsWith('iam.keys.'))
        continue;
      expect(isAboutItself(permission, kinds[names]), method).to.equal(isParent !== true);
    }
  });
});
