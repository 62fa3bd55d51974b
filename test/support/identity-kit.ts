// FolderService, CloudService, ServiceAccountService, KeyService and IamTokenService on a database of their own, without a transport.
import type { EntityManager } from '@mikro-orm/postgresql';
import { CreateKeyRequest } from '../../generated/yandex/cloud/iam/v1/key_service.ts';
import {
  CreateServiceAccountMetadata,
  CreateServiceAccountRequest,
} from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import { CreateCloudMetadata, CreateCloudRequest } from '../../generated/yandex/cloud/resourcemanager/v1/cloud_service.ts';
import { CreateFolderMetadata, CreateFolderRequest } from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { keyMethods } from '../../src/authorized-keys/methods.ts';
import { entities } from '../../src/entities.ts';
import { cloudMethods, folderMethods } from '../../src/folders/methods.ts';
import { bootstrap, type BootstrapIds } from '../../src/iam/bootstrap.ts';
import type { Call } from '../../src/iam/call.ts';
import { iamTokenMethods } from '../../src/iam/iam-token-service/iam-token-methods.ts';
import { TokenAuthority } from '../../src/iam/tokens.ts';
import { JobBell } from '../../src/operations/job-bell.ts';
import { Operations } from '../../src/operations/operations.ts';
import { serviceAccountMethods } from '../../src/service-accounts/methods.ts';
import { testCall } from './call.ts';
import { testOrm, type TestOrm } from './test-orm.ts';

export class IdentityKit implements AsyncDisposable {
  readonly ids: BootstrapIds;
  readonly authority: TokenAuthority;
  readonly operations: Operations;
  readonly folders: ReturnType<typeof folderMethods>;
  readonly clouds: ReturnType<typeof cloudMethods>;
  readonly accounts: ReturnType<typeof serviceAccountMethods>;
  readonly keys: ReturnType<typeof keyMethods>;
  readonly tokens: ReturnType<typeof iamTokenMethods>;
  readonly #database: TestOrm;

  private constructor(database: TestOrm, ids: BootstrapIds, authority: TokenAuthority) {
    this.#database = database;
    this.ids = ids;
    this.authority = authority;
    const operations = new Operations({ bell: new JobBell(this.fork), fork: this.fork });
    this.operations = operations;
    this.folders = folderMethods({ operations });
    this.clouds = cloudMethods({ operations });
    this.accounts = serviceAccountMethods({ operations, authority });
    this.keys = keyMethods({ operations });
    this.tokens = iamTokenMethods({ authority });
  }

  static async open(): Promise<IdentityKit> {
    const database = await testOrm([...entities]);
    const ids = await database.orm.em.fork().transactional((em) => bootstrap(em));
    const authority = await TokenAuthority.open({ forkEm: () => database.orm.em.fork() });
    return new IdentityKit(database, ids, authority);
  }

  readonly fork = (): EntityManager => this.#database.orm.em.fork();

  call = (overrides: Partial<Call> = {}): Call => testCall(this.fork(), overrides);

  /** Another process's authority, on the same database. */
  otherProcess = (): Promise<TokenAuthority> => TokenAuthority.open({ forkEm: this.fork, pollIntervalMs: 50 });

  async createFolder(name: string, request: Partial<CreateFolderRequest> = {}, call = this.call()): Promise<string> {
    const operation = await this.folders.create(
      CreateFolderRequest.fromPartial({ cloudId: this.ids.cloudId, name, ...request }),
      call,
    );
    return CreateFolderMetadata.decode(operation.metadata!.value).folderId;
  }

  async createCloud(name: string, request: Partial<CreateCloudRequest> = {}, call = this.call()): Promise<string> {
    const { organizationId } = this.ids;
    const operation = await this.clouds.create(CreateCloudRequest.fromPartial({ organizationId, name, ...request }), call);
    return CreateCloudMetadata.decode(operation.metadata!.value).cloudId;
  }

  async createAccount(name: string, request: Partial<CreateServiceAccountRequest> = {}, call = this.call()): Promise<string> {
    const { folderId } = this.ids;
    const operation = await this.accounts.create(CreateServiceAccountRequest.fromPartial({ folderId, name, ...request }), call);
    return CreateServiceAccountMetadata.decode(operation.metadata!.value).serviceAccountId;
  }

  createKey = (request: Partial<CreateKeyRequest>, call = this.call()) =>
    this.keys.create(CreateKeyRequest.fromPartial(request), call);

  async [Symbol.asyncDispose](): Promise<void> {
    await this.authority[Symbol.asyncDispose]();
    await this.#database[Symbol.asyncDispose]();
  }
}
