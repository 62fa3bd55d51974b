// Accounts, keys, folders and clouds through two processes of the real service on one database: what is made or taken away through one
// counts in the other.
import { createPrivateKey } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Metadata, credentials, type ServiceError, status } from '@grpc/grpc-js';
import { Session, waitForOperation } from '@yandex-cloud/nodejs-sdk';
import { IamTokenService as SdkTokenService } from '@yandex-cloud/nodejs-sdk/dist/token-service/iam-token-service';
import { CreateIamTokenRequest, IamTokenServiceClient as SdkTokens } from '@yandex-cloud/nodejs-sdk/iam-v1/iam_token_service';
import { CreateKeyRequest as CreateSdkKey, KeyServiceClient as SdkKeys } from '@yandex-cloud/nodejs-sdk/iam-v1/key_service';
import { ServiceAccount as SdkAccount } from '@yandex-cloud/nodejs-sdk/iam-v1/service_account';
import {
  CreateServiceAccountRequest as CreateSdkAccount,
  GetServiceAccountRequest as GetSdkAccount,
  ServiceAccountServiceClient as SdkAccounts,
} from '@yandex-cloud/nodejs-sdk/iam-v1/service_account_service';
import { expect } from 'chai';
import { SignJWT } from 'jose';
import { CreateKeyRequest, type CreateKeyResponse, KeyServiceClient } from '../../generated/yandex/cloud/iam/v1/key_service.ts';
import { IamTokenServiceClient } from '../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import {
  CreateServiceAccountMetadata,
  CreateServiceAccountRequest,
  ServiceAccountServiceClient,
} from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import type { Operation } from '../../generated/yandex/cloud/operation/operation.ts';
import {
  CloudServiceClient,
  CreateCloudMetadata,
  CreateCloudRequest,
} from '../../generated/yandex/cloud/resourcemanager/v1/cloud_service.ts';
import {
  CreateFolderMetadata,
  CreateFolderRequest,
  DeleteFolderRequest,
  FolderServiceClient,
} from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { ObrazClient, unary } from '../support/client.ts';
import { IdentityProvider } from '../support/identity-provider.ts';
import { type Bootstrap, Obraz } from '../support/obraz.ts';
import { rows } from '../support/slow-import.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';

interface Process {
  obraz: Obraz;
  admin: ObrazClient;
  bootstrap: Bootstrap;
  accounts: ServiceAccountServiceClient;
  keys: KeyServiceClient;
  tokens: IamTokenServiceClient;
  folders: FolderServiceClient;
  clouds: CloudServiceClient;
}

interface Identity {
  id: string;
  jwt: string;
  metadata: Metadata;
  key: CreateKeyResponse;
}

const page = { pageSize: 0n, pageToken: '', filter: '', orderBy: '' };

describe('identities in two processes', function () {
  this.timeout(120_000);
  const cleanUp = new AsyncDisposableStack();
  let database: TestDatabase;
  let provider: IdentityProvider;
  let here: Process;
  let there: Process;

  const start = async (blobDirectory: string): Promise<Process> => {
    const obraz = cleanUp.use(
      await Obraz.start({
        environment: {
          DATABASE_URL: database.url,
          OBRAZ_BLOB_DIR: blobDirectory,
          OBRAZ_OIDC_ISSUER: provider.issuer,
          OBRAZ_OIDC_AUDIENCE: 'obraz',
          OBRAZ_OIDC_SUBJECT_TYPE: 'federatedUser',
        },
      }),
    );
    const admin = cleanUp.use(await ObrazClient.of(obraz));
    const client = <Client extends { close(): void }>(make: new (address: string, channel: typeof channelOf) => Client): Client =>
      cleanUp.adopt(new make(admin.address, channelOf), (each) => each.close());
    const channelOf = credentials.createInsecure();
    return {
      obraz,
      admin,
      bootstrap: await obraz.bootstrap(),
      accounts: client(ServiceAccountServiceClient),
      keys: client(KeyServiceClient),
      tokens: client(IamTokenServiceClient),
      folders: client(FolderServiceClient),
      clouds: client(CloudServiceClient),
    };
  };

  before(async () => {
    database = cleanUp.adopt(await testDatabase(), (each) => each.dispose());
    provider = cleanUp.use(await IdentityProvider.start());
    const blobDirectory = cleanUp.adopt(await mkdtemp(path.join(tmpdir(), 'obraz-identity-')), removeDataFolder);
    [here, there] = await Promise.all([start(blobDirectory), start(blobDirectory)]);
  });

  after(() => cleanUp.disposeAsync());

  const codeOf = (work: Promise<unknown>): Promise<number> =>
    work.then(
      () => status.OK,
      (error: ServiceError) => error.code,
    );

  /** Until the call answers that code; what other processes remember counts for a few seconds. At most 30 s. */
  const untilCode = async (code: number, call: () => Promise<unknown>): Promise<void> => {
    const deadline = Date.now() + 30_000;
    while (true) {
      const answer = await codeOf(call());
      if (answer === code) return;
      if (Date.now() > deadline) throw new Error(`answers ${status[answer]}, not ${status[code]}`);
      await delay(100);
    }
  };

  const metadataOf = (operation: Operation): Buffer => {
    expect(operation.done).to.equal(true);
    return operation.metadata!.value;
  };

  const createFolder = async (name: string, cloudId = here.bootstrap.cloud_id): Promise<string> => {
    const request = CreateFolderRequest.fromPartial({ cloudId, name });
    const operation = await unary(here.folders, here.folders.create, request, here.admin.metadata);
    return CreateFolderMetadata.decode(metadataOf(operation)).folderId;
  };

  const deleteFolder = (folderId: string): Promise<Operation> =>
    unary(there.folders, there.folders.delete, DeleteFolderRequest.fromPartial({ folderId }), there.admin.metadata);

  const bearer = (token: string): Metadata => {
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${token}`);
    return metadata;
  };

  const signIn = async ({ tokens }: Process, jwt: string): Promise<string> =>
    (await unary(tokens, tokens.create, { identity: { $case: 'jwt', value: jwt } })).iamToken;

  /** Made through one process, signed in at the other. */
  const makeIdentity = async (name: string, folderId: string): Promise<Identity> => {
    const request = CreateServiceAccountRequest.fromPartial({ folderId, name });
    const operation = await unary(here.accounts, here.accounts.create, request, here.admin.metadata);
    const { serviceAccountId: id } = CreateServiceAccountMetadata.decode(metadataOf(operation));
    const key = await unary(
      here.keys,
      here.keys.create,
      CreateKeyRequest.fromPartial({ serviceAccountId: id }),
      here.admin.metadata,
    );
    const now = Math.floor(Date.now() / 1000);
    const jwt = await new SignJWT({ iss: id, aud: ['https://iam.api.cloud.yandex.net/iam/v1/tokens'], iat: now, exp: now + 3600 })
      .setProtectedHeader({ typ: 'JWT', alg: 'PS256', kid: key.key!.id })
      .sign(createPrivateKey(key.privateKey));
    return { id, jwt, metadata: bearer(await signIn(there, jwt)), key };
  };

  const listImages = ({ admin }: Process, folderId: string, metadata: Metadata): Promise<unknown> =>
    unary(admin.images, admin.images.list, { ...page, folderId }, metadata);

  const bind = (folderId: string, roleId: string | undefined, { id }: Identity): Promise<Operation> => {
    const accessBindings = roleId === undefined ? [] : [{ roleId, subject: { id, type: 'serviceAccount' } }];
    return unary(here.folders, here.folders.setAccessBindings, { resourceId: folderId, accessBindings }, here.admin.metadata);
  };

  it('sign in at once, and may do nothing until they are given a role, in both within seconds', async () => {
    const folderId = await createFolder('roles');
    const identity = await makeIdentity('worker', folderId);
    const { metadata } = identity;
    expect(await codeOf(listImages(there, folderId, metadata))).to.equal(status.PERMISSION_DENIED);
    expect(await codeOf(unary(there.folders, there.folders.get, { folderId }, metadata))).to.equal(status.NOT_FOUND);
    await bind(folderId, 'compute.editor', identity);
    expect(await codeOf(listImages(here, folderId, metadata))).to.equal(status.OK);
    await untilCode(status.OK, () => listImages(there, folderId, metadata));
    const disk = await there.admin.createDisk({ folderId }, metadata);
    expect(disk).to.include({ done: true, createdBy: identity.id });
    expect(await codeOf(deleteFolder(folderId))).to.equal(status.FAILED_PRECONDITION);
    // What makes others act as an account is no editor's business.
    for (const [role, code] of [
      ['compute.editor', status.NOT_FOUND],
      ['editor', status.PERMISSION_DENIED],
    ] as const) {
      await bind(folderId, role, identity);
      expect(await codeOf(unary(here.keys, here.keys.create, CreateKeyRequest.fromPartial({}), metadata))).to.equal(code);
      const forItself = { serviceAccountId: identity.id };
      expect(await codeOf(unary(here.tokens, here.tokens.createForServiceAccount, forItself, metadata))).to.equal(code);
    }
    await bind(folderId, undefined, identity);
    await untilCode(status.PERMISSION_DENIED, () => listImages(there, folderId, metadata));
  });

  it('lose their keys and tokens in both', async () => {
    const folderId = await createFolder('ends');
    const identity = await makeIdentity('leaver', folderId);
    const { id, jwt, metadata, key } = identity;
    await bind(folderId, 'viewer', identity);
    await untilCode(status.OK, () => listImages(there, folderId, metadata));
    const second = bearer(await signIn(here, jwt));

    const revoked = String(metadata.get('authorization')[0]).slice('Bearer '.length);
    await unary(here.tokens, here.tokens.revoke, { iamToken: revoked }, second);
    expect(await codeOf(listImages(here, folderId, metadata))).to.equal(status.UNAUTHENTICATED);
    await untilCode(status.UNAUTHENTICATED, () => listImages(there, folderId, metadata));
    expect(await codeOf(listImages(there, folderId, second))).to.equal(status.OK);

    await unary(here.keys, here.keys.delete, { keyId: key.key!.id }, here.admin.metadata);
    expect(await codeOf(signIn(there, jwt))).to.equal(status.UNAUTHENTICATED);
    expect(await codeOf(listImages(there, folderId, second))).to.equal(status.OK);

    await unary(here.accounts, here.accounts.delete, { serviceAccountId: id }, here.admin.metadata);
    await untilCode(status.UNAUTHENTICATED, () => listImages(there, folderId, second));
    await untilCode(status.UNAUTHENTICATED, () => listImages(here, folderId, second));
    await deleteFolder(folderId);
    expect(await codeOf(unary(here.folders, here.folders.get, { folderId }, here.admin.metadata))).to.equal(status.NOT_FOUND);
  });

  it('own what is made for them: a cloud of their own, out of the reach of others', async () => {
    const { organizationId } = await unary(
      here.clouds,
      here.clouds.get,
      { cloudId: here.bootstrap.cloud_id },
      here.admin.metadata,
    );
    const create = (name: string, metadata: Metadata) =>
      unary(here.clouds, here.clouds.create, CreateCloudRequest.fromPartial({ organizationId, name }), metadata);
    const { cloudId } = CreateCloudMetadata.decode(metadataOf(await create('tenant', here.admin.metadata)));
    const folderId = await createFolder('tenants', cloudId);
    const owner = await makeIdentity('owner', folderId);
    const stranger = await makeIdentity('stranger', await createFolder('strangers'));
    const accessBindings = [{ roleId: 'resource-manager.clouds.owner', subject: { id: owner.id, type: 'serviceAccount' } }];
    await unary(here.clouds, here.clouds.setAccessBindings, { resourceId: cloudId, accessBindings }, here.admin.metadata);
    const makeFolder = ({ metadata }: Identity) =>
      unary(there.folders, there.folders.create, CreateFolderRequest.fromPartial({ cloudId, name: 'own' }), metadata);
    await untilCode(status.OK, () => unary(there.clouds, there.clouds.get, { cloudId }, owner.metadata));
    await makeFolder(owner);
    expect(await codeOf(makeFolder(stranger))).to.equal(status.PERMISSION_DENIED);
    expect(await codeOf(unary(there.clouds, there.clouds.get, { cloudId }, stranger.metadata))).to.equal(status.NOT_FOUND);
    // Clouds are the operator's to make, and his own is no part of an owner's.
    for (const { metadata } of [owner, stranger])
      expect(await codeOf(create('another', metadata))).to.equal(status.PERMISSION_DENIED);
    const listed = await unary(there.clouds, there.clouds.list, { ...page, organizationId: '' }, owner.metadata);
    expect(listed.clouds.map(({ id }) => id)).to.deep.equal([cloudId]);
  });

  it('are made and used by the npm SDK', async () => {
    const { addresses, folder_id: folderId } = here.bootstrap;
    const address = `localhost:${addresses.tls.split(':').at(-1)}`;
    const ssl = { rootCerts: await here.obraz.ca() };
    const session = new Session({ iamToken: await here.obraz.token(), ssl, pollInterval: 50 });
    const request = CreateSdkAccount.fromPartial({ folderId, name: 'by-the-sdk' });
    const operation = await session.client(SdkAccounts, address).create(request);
    const made = await waitForOperation(operation, session, 30_000, address);
    const { id } = SdkAccount.decode(made.response!.value);
    const { key, privateKey } = await session.client(SdkKeys, address).create(CreateSdkKey.fromPartial({ serviceAccountId: id }));
    // The SDK exchanges at the public cloud's address, which cannot be set: its JWT is its own, the call is ours.
    const sdk = new SdkTokenService({ serviceAccountId: id, accessKeyId: key!.id, privateKey });
    const jwt = (sdk as unknown as { getJwtRequest(): string }).getJwtRequest();
    const { iamToken } = await new Session({ iamToken: '', ssl })
      .client(SdkTokens, address)
      .create(CreateIamTokenRequest.fromPartial({ jwt }));
    const own = new Session({ iamToken, ssl }).client(SdkAccounts, address);
    // It may not even see itself before it is given a role.
    const unseen = await own.get(GetSdkAccount.fromPartial({ serviceAccountId: id })).catch((error: Error) => error.message);
    expect(unseen).to.match(/NOT_FOUND/);
    const accessBindings = [{ roleId: 'iam.viewer', subject: { id, type: 'serviceAccount' } }];
    await unary(here.accounts, here.accounts.setAccessBindings, { resourceId: id, accessBindings }, here.admin.metadata);
    expect((await own.get(GetSdkAccount.fromPartial({ serviceAccountId: id }))).name).to.equal('by-the-sdk');
  });

  it('of the identity provider are users here: with roles of their own, and tokens of both kinds', async () => {
    const folderId = await createFolder('users');
    const token = await provider.token({ sub: 'alice@example.org' });
    const external = bearer(token);
    expect(await codeOf(listImages(there, folderId, external))).to.equal(status.PERMISSION_DENIED);
    const accessBindings = [{ roleId: 'compute.editor', subject: { id: 'alice@example.org', type: 'federatedUser' } }];
    await unary(here.folders, here.folders.setAccessBindings, { resourceId: folderId, accessBindings }, here.admin.metadata);
    await untilCode(status.OK, () => listImages(there, folderId, external));
    const identity = { $case: 'yandexPassportOauthToken', value: token } as const;
    const { iamToken } = await unary(here.tokens, here.tokens.create, { identity });
    const disk = await there.admin.createDisk({ folderId }, bearer(iamToken));
    expect(disk).to.include({ done: true, createdBy: 'alice@example.org' });
    const stranger = await provider.token({ sub: 'alice@example.org', aud: 'another' });
    expect(await codeOf(listImages(there, folderId, bearer(stranger)))).to.equal(status.UNAUTHENTICATED);
  });

  it('leave no private key and no token in the logs and the audit, which tells of each key once', async () => {
    const identity = await makeIdentity('quiet', await createFolder('quiet'));
    const secrets = [identity.key.privateKey.split('\n')[5]!, identity.jwt.split('.')[2]!];
    for (const { obraz } of [here, there]) {
      for (const secret of secrets) expect(obraz.output.includes(secret)).to.equal(false);
    }
    const events = await rows<{ text: string }>(database.url, 'select event::text as text from audit_events');
    for (const { text } of events) for (const secret of secrets) expect(text.includes(secret)).to.equal(false);
    const made = events.filter(({ text }) => text.includes('.CreateKey"') && text.includes(identity.key.key!.id));
    expect(made).to.have.length(1);
    expect(JSON.parse(made[0]!.text)).to.include({ eventStatus: 'DONE', eventType: 'yandex.cloud.audit.iam.CreateKey' });
  });
});
