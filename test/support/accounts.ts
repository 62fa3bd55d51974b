// Callers of one's own for end-to-end tests, made as an operator makes them: clouds, folders, service accounts and their roles, by the
// public services.
import { credentials, Metadata } from '@grpc/grpc-js';
import { QuotaAdminServiceClient } from '../../generated/obraz/v1/quota_admin.ts';
import { IamTokenServiceClient } from '../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import {
  CreateServiceAccountRequest,
  ServiceAccountServiceClient,
} from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import { ServiceAccount } from '../../generated/yandex/cloud/iam/v1/service_account.ts';
import { Cloud } from '../../generated/yandex/cloud/resourcemanager/v1/cloud.ts';
import { CloudServiceClient, CreateCloudRequest } from '../../generated/yandex/cloud/resourcemanager/v1/cloud_service.ts';
import { Folder } from '../../generated/yandex/cloud/resourcemanager/v1/folder.ts';
import { CreateFolderRequest, FolderServiceClient } from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import type { AccessBindingAction } from '../../generated/yandex/cloud/access/access.ts';
import type { Operation } from '../../generated/yandex/cloud/operation/operation.ts';
import type { Role } from '../../src/iam/roles.ts';
import { ObrazClient, unary } from './client.ts';
import type { Obraz } from './obraz.ts';

export interface SomeSubject {
  id: string;
  type: string;
}

export const everybody: SomeSubject = { id: 'allAuthenticatedUsers', type: 'system' };

const add: AccessBindingAction = 1;
const remove: AccessBindingAction = 2;

/** The services that hold bindings, by what they are bound on. */
type Bindable = 'image' | 'disk' | 'snapshot' | 'folder' | 'cloud';

export class Accounts implements Disposable {
  readonly admin: ObrazClient;
  readonly organizationId: string;
  readonly folders: FolderServiceClient;
  readonly clouds: CloudServiceClient;
  readonly accounts: ServiceAccountServiceClient;
  readonly tokens: IamTokenServiceClient;
  readonly limits: QuotaAdminServiceClient;

  private constructor(admin: ObrazClient, organizationId: string) {
    this.admin = admin;
    this.organizationId = organizationId;
    const { address } = admin;
    const channel = credentials.createInsecure();
    this.folders = new FolderServiceClient(address, channel);
    this.clouds = new CloudServiceClient(address, channel);
    this.accounts = new ServiceAccountServiceClient(address, channel);
    this.tokens = new IamTokenServiceClient(address, channel);
    this.limits = new QuotaAdminServiceClient(address, channel);
  }

  static async of(obraz: Obraz): Promise<Accounts> {
    const admin = await ObrazClient.of(obraz);
    const clouds = new CloudServiceClient(admin.address, credentials.createInsecure());
    const { cloud_id: cloudId } = await obraz.bootstrap();
    const { organizationId } = await unary(clouds, clouds.get, { cloudId }, admin.metadata);
    clouds.close();
    return new Accounts(admin, organizationId);
  }

  async cloud(name: string): Promise<Cloud> {
    const request = CreateCloudRequest.fromPartial({ organizationId: this.organizationId, name });
    return Cloud.decode(await this.#done(unary(this.clouds, this.clouds.create, request, this.admin.metadata)));
  }

  async folder(cloudId: string, name: string): Promise<Folder> {
    const request = CreateFolderRequest.fromPartial({ cloudId, name });
    return Folder.decode(await this.#done(unary(this.folders, this.folders.create, request, this.admin.metadata)));
  }

  /** A service account in the first folder, and a client of it that works in `folderId`. */
  async account(name: string, folderId: string): Promise<{ subject: SomeSubject; client: ObrazClient; token: string }> {
    const request = CreateServiceAccountRequest.fromPartial({ folderId: this.admin.folderId, name });
    const made = await this.#done(unary(this.accounts, this.accounts.create, request, this.admin.metadata));
    const { id } = ServiceAccount.decode(made);
    const token = await this.token(id);
    return { subject: { id, type: 'serviceAccount' }, client: new ObrazClient(this.admin.address, token, folderId), token };
  }

  async token(serviceAccountId: string): Promise<string> {
    const { createForServiceAccount } = this.tokens;
    return (await unary(this.tokens, createForServiceAccount, { serviceAccountId }, this.admin.metadata)).iamToken;
  }

  async revoke(iamToken: string): Promise<void> {
    await unary(this.tokens, this.tokens.revoke, { iamToken }, this.admin.metadata);
  }

  /** No limit for that quota in the cloud any more. */
  async raise(cloudId: string, quotaId: string): Promise<void> {
    const limit = { $case: 'unlimited', value: {} } as const;
    await unary(this.limits, this.limits.setLimit, { cloudId, quotaId, limit }, this.admin.metadata);
  }

  bind(what: Bindable, resourceId: string, role: Role, subject: SomeSubject): Promise<void> {
    return this.#change(what, resourceId, role, subject, add);
  }

  unbind(what: Bindable, resourceId: string, role: Role, subject: SomeSubject): Promise<void> {
    return this.#change(what, resourceId, role, subject, remove);
  }

  async #change(
    what: Bindable,
    resourceId: string,
    roleId: Role,
    subject: SomeSubject,
    action: AccessBindingAction,
  ): Promise<void> {
    const { images, disks, snapshots, metadata } = this.admin;
    const client = { image: images, disk: disks, snapshot: snapshots, folder: this.folders, cloud: this.clouds }[what];
    const request = {
      resourceId,
      accessBindingDeltas: [{ action, accessBinding: { roleId, subject: { ...subject } } }],
      privateCall: false,
    };
    await this.#done(unary(client, client.updateAccessBindings, request, metadata));
  }

  async #done(call: Promise<Operation>): Promise<Uint8Array> {
    return this.admin.response(await call);
  }

  [Symbol.dispose](): void {
    for (const client of [this.folders, this.clouds, this.accounts, this.tokens, this.limits]) client.close();
    this.admin[Symbol.dispose]();
  }
}

export const bearer = (token: string): Metadata => {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  return metadata;
};
