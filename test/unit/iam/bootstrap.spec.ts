import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { listBindings } from '../../../src/iam/access-bindings.ts';
import { ensureAdminKey, type KeyFile } from '../../../src/iam/admin-key.ts';
import { keepAdminToken } from '../../../src/iam/admin-token.ts';
import { AuthorizedKey } from '../../../src/iam/authorized-key.entity.ts';
import { bootstrap, type BootstrapIds } from '../../../src/iam/bootstrap.ts';
import { Cloud } from '../../../src/iam/hierarchy/cloud.entity.ts';
import { Folder } from '../../../src/iam/hierarchy/folder.entity.ts';
import { iamTokenMethods } from '../../../src/iam/iam-token-service/iam-token-methods.ts';
import { ServiceAccount } from '../../../src/iam/service-account.entity.ts';
import { TokenAuthority } from '../../../src/iam/tokens.ts';
import { testCall } from '../../support/call.ts';
import { iamSchemas } from '../../support/iam-schemas.ts';
import { testOrm, type TestOrm } from '../../support/test-orm.ts';

const start = ({ orm }: TestOrm): Promise<BootstrapIds> => orm.em.fork().transactional((em) => bootstrap(em));

describe('bootstrap', () => {
  let database: TestOrm;

  before(async () => {
    database = await testOrm(iamSchemas);
  });

  after(() => database?.[Symbol.asyncDispose]());

  it('makes everything once, however many processes start at once and however often', async () => {
    const all = await Promise.all(Array.from({ length: 5 }, () => start(database)));
    all.push(await start(database));
    for (const ids of all) expect(ids).to.deep.equal(all[0]);
    const em = database.orm.em.fork();
    expect(await em.count(Cloud)).to.equal(2);
    expect(await em.count(Folder)).to.equal(2);
    expect(await em.count(ServiceAccount)).to.equal(1);
  });

  it('makes a cloud with a folder and an admin, and the public folder in a cloud of its own', async () => {
    const ids = await start(database);
    const em = database.orm.em.fork();
    const cloud = await em.findOneOrFail(Cloud, { id: ids.cloudId });
    expect(cloud).to.include({ name: 'default', system: false, organizationId: ids.organizationId });
    expect(await em.findOneOrFail(Folder, { id: ids.folderId })).to.include({
      cloudId: ids.cloudId,
      name: 'default',
      status: 'ACTIVE',
    });
    const publicFolder = await em.findOneOrFail(Folder, { id: 'standard-images' });
    expect(await em.findOneOrFail(Cloud, { id: publicFolder.cloudId })).to.include({ system: true });
    expect(await em.findOneOrFail(ServiceAccount, { id: ids.serviceAccountId })).to.include({
      folderId: ids.folderId,
      status: 'ACTIVE',
    });
    const page = { pageSize: 0n, pageToken: '' };
    for (const id of [ids.cloudId, publicFolder.cloudId]) {
      const { bindings } = await listBindings(em, { kind: 'resource-manager.cloud', id }, page);
      expect(bindings).to.deep.equal([{ roleId: 'admin', subject: { id: ids.serviceAccountId, type: 'serviceAccount' } }]);
    }
    const { bindings } = await listBindings(em, { kind: 'resource-manager.folder', id: 'standard-images' }, page);
    expect(bindings).to.deep.equal([{ roleId: 'compute.images.user', subject: { id: 'allAuthenticatedUsers', type: 'system' } }]);
  });

  it('leaves nothing behind when its transaction fails', async () => {
    await using fresh = await testOrm(iamSchemas);
    const failed = fresh.orm.em.fork().transactional(async (em) => {
      await bootstrap(em);
      throw new Error('later step');
    });
    expect(await failed.catch((error: Error) => error.message)).to.equal('later step');
    expect(await fresh.orm.em.fork().count(Cloud)).to.equal(0);
    expect((await start(fresh)).cloudId).to.match(/^b1g/);
  });

  it('declares tables that migrations find unchanged', async () => {
    expect(await database.orm.schema.getUpdateSchemaSQL()).to.equal('');
  });
});

describe('The files of the admin account', () => {
  let database: TestOrm;
  let ids: BootstrapIds;
  let folder: string;
  let authority: TokenAuthority;

  before(async () => {
    database = await testOrm(iamSchemas);
    ids = await start(database);
    folder = await mkdtemp(path.join(tmpdir(), 'obraz-admin-'));
    authority = await TokenAuthority.open({ forkEm: () => database.orm.em.fork() });
  });

  after(async () => {
    await authority?.[Symbol.asyncDispose]();
    await database?.[Symbol.asyncDispose]();
    if (folder !== undefined) await rm(folder, { recursive: true });
  });

  const modeOf = async (file: string) => (await stat(file)).mode & 0o777;

  it('hold a good token that only its owner can read, also after an older file that others could read', async () => {
    const file = path.join(folder, 'admin.token');
    await writeFile(file, 'old', { mode: 0o644 });
    await using _token = await keepAdminToken({ authority, serviceAccountId: ids.serviceAccountId, file });
    expect(await modeOf(file)).to.equal(0o600);
    const text = await readFile(file, 'utf8');
    expect(await authority.verify(text.trimEnd())).to.deep.equal({ id: ids.serviceAccountId, type: 'serviceAccount' });
  });

  it('hold another token when half of the life of the first is over, not before', async () => {
    const file = path.join(folder, 'renewed.token');
    const checks: number[] = [];
    let now = Date.now();
    const options = { checkIntervalMs: 1, now: () => (checks.push(now), now) };
    await using _token = await keepAdminToken({ authority, serviceAccountId: ids.serviceAccountId, file, ...options });
    const first = await readFile(file, 'utf8');
    while (checks.length < 5) await sleep(1);
    expect(await readFile(file, 'utf8')).to.equal(first);
    now += 6.1 * 3600_000;
    let renewed = first;
    while (renewed === first) renewed = await readFile(file, 'utf8');
    expect((await authority.verify(renewed.trimEnd())).id).to.equal(ids.serviceAccountId);
    expect((await authority.verify(first.trimEnd())).id).to.equal(ids.serviceAccountId);
  });

  it('fail at once where they cannot be written', async () => {
    const file = path.join(folder, 'missing', 'admin.token');
    const error = await keepAdminToken({ authority, serviceAccountId: ids.serviceAccountId, file }).catch(
      (reason: unknown) => reason,
    );
    expect((error as NodeJS.ErrnoException).code).to.equal('ENOENT');
  });

  const ensure = (file: string) => ensureAdminKey(database.orm.em.fork(), ids.serviceAccountId, file);
  const read = async (file: string) => JSON.parse(await readFile(file, 'utf8')) as KeyFile;

  it('hold a key in the form of SDKs, kept as long as the database knows it', async () => {
    const file = path.join(folder, 'admin-key.json');
    await ensure(file);
    const key = await read(file);
    expect(Object.keys(key)).to.deep.equal([
      'id',
      'service_account_id',
      'created_at',
      'key_algorithm',
      'public_key',
      'private_key',
    ]);
    expect(key.service_account_id).to.equal(ids.serviceAccountId);
    expect(key.created_at).to.match(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(key.key_algorithm).to.equal('RSA_2048');
    expect(key.public_key).to.match(/^-----BEGIN PUBLIC KEY-----\n[^]+-----END PUBLIC KEY-----\n$/);
    expect(key.private_key).to.match(/^-----BEGIN PRIVATE KEY-----\n[^]+-----END PRIVATE KEY-----\n$/);
    expect(await modeOf(file)).to.equal(0o600);
    await ensure(file);
    expect(await read(file)).to.deep.equal(key);
  });

  it('get a new key when theirs is unknown, damaged or of another account', async () => {
    const file = path.join(folder, 'replaced-key.json');
    await ensure(file);
    const first = await read(file);
    const other = path.join(folder, 'other-key.json');
    await ensure(other);
    const damaged = [
      '',
      '{',
      'null',
      JSON.stringify({ ...first, service_account_id: 'ajesomebodyelse' }),
      JSON.stringify({ ...first, private_key: (await read(other)).private_key }),
      JSON.stringify({ ...first, private_key: 'x' }),
      JSON.stringify({ ...first, id: 'ajeunknown' }),
    ];
    for (const text of damaged) {
      await writeFile(file, text);
      await ensure(file);
      const key = await read(file);
      expect(key.id).not.to.equal(first.id);
      expect(await database.orm.em.fork().count(AuthorizedKey, { id: key.id })).to.equal(1);
    }
  });

  it('let the public SDK sign in', async () => {
    const file = path.join(folder, 'sdk-key.json');
    await ensure(file);
    const key = await read(file);
    const { IamTokenService } = createRequire(import.meta.url)(
      '@yandex-cloud/nodejs-sdk/dist/token-service/iam-token-service',
    ) as { IamTokenService: new (key: object) => { getJwtRequest(): string } };
    const sdk = new IamTokenService({
      serviceAccountId: key.service_account_id,
      accessKeyId: key.id,
      privateKey: key.private_key,
    });
    const request = { identity: { $case: 'jwt', value: sdk.getJwtRequest() } } as const;
    const call = testCall(database.orm.em.fork(), { subject: undefined });
    const { iamToken } = await iamTokenMethods({ authority }).create(request, call);
    expect((await authority.verify(iamToken)).id).to.equal(ids.serviceAccountId);
  });
});
