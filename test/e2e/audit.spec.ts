// The audit of the real service: what calls leave, as lines of a file and as `obraz audit tail` shows them.
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rename, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { QuotaAdminServiceClient } from '../../generated/obraz/v1/quota_admin.ts';
import { AccessBindingAction } from '../../generated/yandex/cloud/access/access.ts';
import { ListDisksRequest } from '../../generated/yandex/cloud/compute/v1/disk_service.ts';
import { IamTokenServiceClient } from '../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import { CreateKeyRequest, KeyServiceClient } from '../../generated/yandex/cloud/iam/v1/key_service.ts';
import {
  CreateServiceAccountMetadata,
  CreateServiceAccountRequest,
  ServiceAccountServiceClient,
} from '../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import {
  CreateFolderMetadata,
  CreateFolderRequest,
  FolderServiceClient,
} from '../../generated/yandex/cloud/resourcemanager/v1/folder_service.ts';
import { SignJWT, importPKCS8 } from 'jose';
import type { AuditEventJson } from '../../src/audit/event.ts';
import { AttachedDisk } from '../support/attached-disk.ts';
import { imageIdOf, ObrazClient, unary } from '../support/client.ts';
import { command } from '../support/command.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder } from '../support/postgres.ts';
import { isLongRun } from '../support/sample.ts';
import { startWebServer } from '../support/web-server.ts';
import { sampledIt } from '../support/sample.ts';

const MiB = 1024 * 1024;

// Tests that take many seconds: one of three in the sample.
const sampled = sampledIt({ of: 3 });

describe('The audit', function () {
  this.timeout(120_000);
  let dataDirectory: string;
  let file: string;
  let obraz: Obraz;
  let client: ObrazClient;

  const start = async (): Promise<void> => {
    obraz = await Obraz.start({
      dataDirectory,
      environment: { OBRAZ_AUDIT_FILE: file, OBRAZ_RATE_FAILED_LOGINS_PER_MINUTE: '20' },
    });
    client = await ObrazClient.of(obraz);
  };

  before(async () => {
    dataDirectory = await mkdtemp(path.join(tmpdir(), 'obraz-audit-'));
    file = path.join(dataDirectory, 'audit.jsonl');
    await start();
  });

  after(async () => {
    client?.[Symbol.dispose]();
    await obraz?.[Symbol.asyncDispose]();
    await removeDataFolder(dataDirectory);
  });

  const events = async (from = file): Promise<AuditEventJson[]> => {
    const text = await readFile(from, 'utf8').catch(() => '');
    return text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as AuditEventJson);
  };

  /** Waits until there are so many events that satisfy a condition. */
  const seen = async (condition: (event: AuditEventJson) => boolean, count = 1): Promise<AuditEventJson[]> => {
    for (let waits = 0; waits < 600; waits += 1) {
      const found = (await events()).filter(condition);
      if (found.length >= count) return found;
      await sleep(50);
    }
    throw new Error(`there are no such events in:\n${await readFile(file, 'utf8')}`);
  };

  const about = (id: string) => (event: AuditEventJson) => JSON.stringify(event).includes(id);

  /** `obraz audit tail -n 1 --follow`, until it has shown what `change` leaves; then Ctrl-C, which is how it ends well. */
  const follow = async (change: () => Promise<void>, shown: string): Promise<void> => {
    const child = spawn(process.execPath, ['src/main.ts', 'audit', 'tail', '-n', '1', '--follow'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, OBRAZ_DATA_DIR: dataDirectory },
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), 60_000);
    const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
    let out = '';
    for await (const text of child.stdout.setEncoding('utf8')) {
      const isFirst = out === '';
      out += String(text);
      if (isFirst) await change();
      if (out.includes(shown)) child.kill('SIGINT');
    }
    expect(await exited).to.equal(0);
    clearTimeout(timer);
    expect(out).to.include(shown);
  };

  const refused = (call: Promise<unknown>): Promise<ServiceError> =>
    call.then(
      () => {
        throw new Error('was answered');
      },
      (error: ServiceError) => error,
    );

  it('tells of an import twice: who asked for what, from where, and how it ended; without the signature of the URL', async () => {
    await using web = await startWebServer({ content: Buffer.alloc(2 * MiB, 'a') });
    const uri = `${web.url()}?X-Amz-Signature=do-not-tell`;
    const operation = await client.createImage({ name: 'audited', labels: { a: 'b' }, source: { $case: 'uri', value: uri } });
    const image = await client.image(operation);
    const [started, done] = await seen(about(image.id), 2);
    const { cloud_id: cloudId, service_account_id: subjectId } = await obraz.bootstrap();
    expect(started).to.deep.include({
      eventSource: 'compute',
      eventType: 'yandex.cloud.audit.compute.CreateImage',
      eventStatus: 'STARTED',
      authorization: { authorized: true },
      response: { operationId: operation.id },
    });
    expect(started!.authentication).to.include({ authenticated: true, subjectType: 'SERVICE_ACCOUNT', subjectId });
    expect(started!.authentication.subjectName).to.be.a('string');
    expect(started!.authentication.tokenInfo!.maskedIamToken).to.match(/^t1\.\w{7}\*{5}$/);
    expect(started!.authentication.tokenInfo!.iamTokenId).to.match(/^[\w-]{22}$/);
    expect(started!.resourceMetadata.path.map(({ resourceType, resourceId }) => [resourceType, resourceId])).to.deep.equal([
      ['resource-manager.cloud', cloudId],
      ['resource-manager.folder', client.folderId],
      ['compute.image', image.id],
    ]);
    expect(started!.resourceMetadata.path[2]!.resourceName).to.equal('audited');
    expect(started!.requestMetadata).to.include({ remoteAddress: '127.0.0.1' });
    expect(started!.requestMetadata.remotePort).to.match(/^\d+$/);
    expect(started!.requestMetadata.userAgent).to.match(/grpc-node/);
    expect(started!.requestParameters).to.deep.include({ name: 'audited', labels: { a: 'b' }, uri: `${web.url()}?[query]` });
    expect(started!.details).to.deep.include({ imageId: image.id, imageName: 'audited', sourceUri: `${web.url()}?[query]` });
    expect({ ...done, eventId: '', eventTime: '' }).to.deep.equal({
      ...started,
      eventId: '',
      eventTime: '',
      eventStatus: 'DONE',
    });
    expect(done!.eventId).to.not.equal(started!.eventId);
    expect(await readFile(file, 'utf8')).to.not.include('do-not-tell');
  });

  it('tells how an import failed, and that one was cancelled', async () => {
    await using web = await startWebServer({ content: Buffer.alloc(64 * MiB, 'a') });
    web.behave({ status: 404 });
    const failing = await client.wait(await client.createImage({ source: { $case: 'uri', value: web.url() } }));
    const [, failed] = await seen(about(imageIdOf(failing)), 2);
    expect(failed!.eventStatus).to.equal('ERROR');
    expect(failed!.error!.message).to.include('404');
    web.behave({ trickle: { bytes: 1024, everyMs: 100 } });
    const running = await client.createImage({ source: { $case: 'uri', value: web.url() } });
    await client.cancel(running.id);
    await client.wait(running);
    const found = await seen(about(running.id), 3);
    expect(found.map(({ eventType, eventStatus }) => `${eventType.split('.').at(-1)} ${eventStatus}`)).to.have.members([
      'CreateImage STARTED',
      'CancelOperation DONE',
      'CreateImage CANCELLED',
    ]);
  });

  it('tells once of what is done at once, with the name of what is gone; a repeat under the same key changes nothing', async () => {
    const metadata = client.metadata.clone();
    metadata.set('idempotency-key', 'audit-1');
    const created = await client.createDisk({ name: 'short-lived' }, metadata);
    const repeated = await client.createDisk({ name: 'short-lived' }, metadata);
    expect(repeated.id).to.equal(created.id);
    const disk = await client.response(created);
    expect(disk).to.have.length.above(0);
    const [done] = await seen(about(created.id));
    const diskId = done!.details['diskId'] as string;
    expect(done).to.include({ eventType: 'yandex.cloud.audit.compute.CreateDisk', eventStatus: 'DONE' });
    await client.response(await client.deleteDisk(diskId));
    const [, deleted] = await seen(about(diskId), 2);
    expect(deleted).to.include({ eventType: 'yandex.cloud.audit.compute.DeleteDisk', eventStatus: 'DONE' });
    expect(deleted!.resourceMetadata.path.at(-1)).to.deep.equal({
      resourceType: 'compute.disk',
      resourceId: diskId,
      resourceName: 'short-lived',
    });
    // Two events: one create, one delete.
    expect((await events()).filter(about(diskId))).to.have.length(2);
  });

  it('tells which access bindings really changed', async () => {
    const { id: diskId } = await client.disk({ name: 'bound' });
    const binding = { roleId: 'viewer', subject: { id: 'allAuthenticatedUsers', type: 'system' } };
    const accessBindingDeltas = [
      { action: AccessBindingAction.ADD, accessBinding: binding },
      { action: AccessBindingAction.ADD, accessBinding: binding },
    ];
    await unary(client.disks, client.disks.updateAccessBindings, { resourceId: diskId, accessBindingDeltas }, client.metadata);
    await unary(client.disks, client.disks.setAccessBindings, { resourceId: diskId, accessBindings: [] }, client.metadata);
    const [, updated, set] = await seen(about(diskId), 3);
    expect(updated).to.include({ eventType: 'yandex.cloud.audit.compute.UpdateDiskAccessBindings', eventStatus: 'DONE' });
    expect(updated!.details['effectiveDeltas']).to.deep.equal([{ action: 'ADD', accessBinding: binding }]);
    expect(updated!.requestParameters['accessBindingDeltas']).to.have.length(2);
    expect(set!.eventType).to.equal('yandex.cloud.audit.compute.SetDiskAccessBindings');
    expect(set!.details['effectiveDeltas']).to.deep.equal([{ action: 'REMOVE', accessBinding: binding }]);
  });

  it('tells of calls that were refused: of whom nobody knows, and of what cannot be', async () => {
    const stranger = new Metadata();
    stranger.set('authorization', 'Bearer t1.made-up.token');
    stranger.set('x-request-id', 'audit-test-stranger');
    const error = await refused(client.createDisk({ name: 'never' }, stranger));
    expect(error.code).to.equal(status.UNAUTHENTICATED);
    const [unknown] = await seen(about('audit-test-stranger'));
    expect(unknown).to.deep.include({
      eventType: 'yandex.cloud.audit.compute.CreateDisk',
      eventStatus: 'ERROR',
      authentication: { authenticated: false },
      authorization: { authorized: false },
      error: { code: status.UNAUTHENTICATED, message: 'Token is invalid or has expired.' },
      requestParameters: {},
    });
    const invalid = client.metadata.clone();
    invalid.set('x-request-id', 'audit-test-invalid');
    expect((await refused(client.createDisk({ name: 'Not A Name' }, invalid))).code).to.equal(status.INVALID_ARGUMENT);
    const [wrong] = await seen(about('audit-test-invalid'));
    expect(wrong).to.deep.include({ eventStatus: 'ERROR', authorization: { authorized: true } });
    expect(wrong!.error).to.deep.equal({ code: status.INVALID_ARGUMENT, message: 'Invalid arguments: name' });
  });

  it('tells of tokens and tickets, and holds none of them', async () => {
    const key = JSON.parse(await readFile(path.join(dataDirectory, 'admin-key.json'), 'utf8')) as Record<string, string>;
    const privateKey = await importPKCS8(key['private_key']!.replace(/^PLEASE[^\n]*\n/, ''), 'PS256');
    const jwt = await new SignJWT({})
      .setProtectedHeader({ alg: 'PS256', typ: 'JWT', kid: key['id']! })
      .setIssuer(key['service_account_id']!)
      .setAudience('https://iam.api.cloud.yandex.net/iam/v1/tokens')
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(privateKey);
    const tokens = new IamTokenServiceClient(client.address, credentials.createInsecure());
    const { iamToken } = await unary(tokens, tokens.create, { identity: { $case: 'jwt', value: jwt } });
    await unary(tokens, tokens.revoke, { iamToken }, client.metadata);
    tokens.close();
    const { id: diskId } = await client.disk({ name: 'opened' });
    const { ticket } = await client.createTicket(diskId);
    const [created] = await seen(({ eventType }) => eventType === 'yandex.cloud.audit.iam.CreateIamToken');
    expect(created!.authentication).to.include({ authenticated: true, subjectId: key['service_account_id'] });
    await seen(({ eventType }) => eventType === 'yandex.cloud.audit.iam.RevokeIamToken');
    await seen(({ eventType }) => eventType === 'obraz.audit.attach.CreateAttachTicket');
    const text = await readFile(file, 'utf8');
    for (const secret of [jwt, iamToken, ticket, await obraz.token()]) {
      for (const part of secret.split('.').slice(1)) expect(text).to.not.include(part.slice(0, 60));
    }
  });

  it('tells of folders, accounts, keys and limits, each in its place, and of no private key', async () => {
    const { cloud_id: cloudId, addresses } = await obraz.bootstrap();
    const channel = credentials.createInsecure();
    const folders = new FolderServiceClient(addresses.grpc, channel);
    const accounts = new ServiceAccountServiceClient(addresses.grpc, channel);
    const keys = new KeyServiceClient(addresses.grpc, channel);
    const limits = new QuotaAdminServiceClient(addresses.grpc, channel);
    const { metadata } = client;
    const folder = await unary(
      folders,
      folders.create,
      CreateFolderRequest.fromPartial({ cloudId, name: 'audit-folder' }),
      metadata,
    );
    const { folderId } = CreateFolderMetadata.decode(folder.metadata!.value);
    const account = await unary(
      accounts,
      accounts.create,
      CreateServiceAccountRequest.fromPartial({ folderId, name: 'audit-account' }),
      metadata,
    );
    const { serviceAccountId } = CreateServiceAccountMetadata.decode(account.metadata!.value);
    const { key, privateKey } = await unary(keys, keys.create, CreateKeyRequest.fromPartial({ serviceAccountId }), metadata);
    await unary(
      limits,
      limits.setLimit,
      { cloudId, quotaId: 'compute.disks.count', limit: { $case: 'value', value: 900n } },
      metadata,
    );
    await unary(accounts, accounts.delete, { serviceAccountId }, metadata);
    await unary(folders, folders.delete, { folderId, deleteAfter: undefined }, metadata);
    for (const each of [folders, accounts, keys, limits]) each.close();
    const shownOf = ({ eventType, eventStatus, resourceMetadata }: AuditEventJson) =>
      `${eventType} ${eventStatus}: ${resourceMetadata.path
        .map(({ resourceType, resourceName }) => `${resourceType} ${resourceName ?? ''}`.trim())
        .slice(1)
        .join(', ')}`;
    await seen(about('DeleteFolder'));
    const told = (await events()).filter((event) =>
      [folderId, serviceAccountId, key!.id, '"900"'].some((id) => about(id)(event)),
    );
    expect(told.map(shownOf)).to.deep.equal([
      'yandex.cloud.audit.resourcemanager.CreateFolder DONE: resource-manager.folder audit-folder',
      'yandex.cloud.audit.iam.CreateServiceAccount DONE: resource-manager.folder audit-folder, iam.serviceAccount audit-account',
      'yandex.cloud.audit.iam.CreateKey DONE: resource-manager.folder audit-folder, iam.key',
      'obraz.audit.quotas.SetQuotaLimit DONE: ',
      'yandex.cloud.audit.iam.DeleteServiceAccount DONE: resource-manager.folder audit-folder, iam.serviceAccount audit-account',
      'yandex.cloud.audit.resourcemanager.DeleteFolder DONE: resource-manager.folder audit-folder',
    ]);
    expect(told.every(({ resourceMetadata }) => resourceMetadata.path[0]!.resourceId === cloudId)).to.equal(true);
    expect(told[3]!.requestParameters).to.deep.include({ quotaId: 'compute.disks.count', value: '900' });
    const text = await readFile(file, 'utf8');
    for (const line of privateKey.split('\n').filter((each) => each.length > 40)) expect(text).to.not.include(line);
  });

  it('tells who has a disk open for writing, and for how long', async () => {
    const { id: diskId } = await client.disk({ name: 'written-to' });
    const { addresses, service_account_id: subjectId } = await obraz.bootstrap();
    // Readers leave none.
    await using reader = await AttachedDisk.open(addresses.nbd!, (await client.createTicket(diskId, { readOnly: true })).ticket);
    await reader[Symbol.asyncDispose]();
    const { ticket } = await client.createTicket(diskId);
    {
      await using disk = await AttachedDisk.open(addresses.nbd!, ticket);
      await disk.write(0, Buffer.alloc(4096, 'w'));
      const refusal = await AttachedDisk.open(addresses.nbd!, ticket).then(
        () => '',
        (error: Error) => error.message,
      );
      expect(refusal).to.include('one writer at a time');
    }
    const found = (await seen((event) => event.eventSource === 'attach' && about(diskId)(event), 5)).filter(
      ({ eventType }) => !eventType.endsWith('Ticket'),
    );
    expect(found.map(({ eventType, eventStatus }) => `${eventType} ${eventStatus}`)).to.have.members([
      'obraz.audit.attach.AttachDisk DONE',
      'obraz.audit.attach.AttachDisk ERROR',
      'obraz.audit.attach.DetachDisk DONE',
    ]);
    const [attached] = found;
    expect(attached!.authentication).to.include({ authenticated: true, subjectId });
    expect(attached!.authentication.tokenInfo!.iamTokenId).to.match(/^[\w-]{22}$/);
    expect(attached!.requestMetadata.remoteAddress).to.match(/^127\.0\.0\.1/);
    expect(attached!.resourceMetadata.path.at(-1)).to.include({ resourceId: diskId, resourceName: 'written-to' });
    const detached = found.find(({ eventType }) => eventType.endsWith('DetachDisk'));
    expect(detached!.details['sessionId']).to.equal(attached!.details['sessionId']).and.be.a('string');
  });

  it('tells of the end of a writer that could not say goodbye, after a kill -9', async () => {
    const { id: diskId } = await client.disk({ name: 'left-behind' });
    const { addresses } = await obraz.bootstrap();
    await using disk = await AttachedDisk.open(addresses.nbd!, (await client.createTicket(diskId)).ticket);
    await disk.write(0, Buffer.alloc(4096, 'w'));
    await obraz.kill();
    client[Symbol.dispose]();
    await start();
    const isSession = ({ eventType }: AuditEventJson): boolean => /(Attach|Detach)Disk$/.test(eventType);
    const found = await seen((event) => isSession(event) && about(diskId)(event), 2);
    expect(found.map(({ eventType }) => eventType)).to.deep.equal([
      'obraz.audit.attach.AttachDisk',
      'obraz.audit.attach.DetachDisk',
    ]);
    const [attached, detached] = found;
    expect(detached!.authentication).to.deep.equal(attached!.authentication);
    expect(detached!.details).to.deep.equal(attached!.details);
  });

  it('counts authentications that fail, tokens as well as proofs, and looks at no more of them; tokens that are known go on', async () => {
    const stranger = new Metadata();
    stranger.set('authorization', 'Bearer t1.made-up.token');
    const tokens = new IamTokenServiceClient(client.address, credentials.createInsecure());
    const asked = { identity: { $case: 'jwt', value: 'not.a.jwt' } } as const;
    const codes: (string | undefined)[] = [];
    for (let index = 0; index < 15; index += 1) {
      codes.push(status[(await refused(client.createDisk({}, stranger))).code]);
      codes.push(status[(await refused(unary(tokens, tokens.create, asked))).code]);
    }
    expect(new Set(codes)).to.deep.equal(new Set(['UNAUTHENTICATED', 'RESOURCE_EXHAUSTED']));
    expect(codes.filter((code) => code === 'UNAUTHENTICATED')).to.have.length.within(10, 24);
    const refusal = await refused(unary(tokens, tokens.create, asked));
    tokens.close();
    expect(refusal.details).to.match(/^Too many failed authentications from your address: at most 20 per minute\. Try again in/);
    expect(Number(refusal.metadata.get('grpc-retry-pushback-ms')[0])).to.be.within(1, 3_000);
    await client.disk({ name: 'goes-on' });
    await client.getOperation((await client.createDisk({ name: 'goes-on-2' })).id);
  });

  sampled(
    'writes every event once, in the order of their numbers: over kill -9, a rename of the file and a line cut short',
    async () => {
      const names: string[] = [];
      for (let round = 0; round < (isLongRun ? 4 : 1); round += 1) {
        for (let index = 0; index < 20; index += 1) {
          const name = `round-${round}-${index}`;
          names.push(name);
          await client.createDisk({ name });
        }
        // Some of these are made, some are not: the kill comes in their midst.
        const racing = Array.from({ length: 30 }, (_, index) =>
          client.createDisk({ name: `racing-${round}-${index}` }).catch(() => undefined),
        );
        await Promise.race(racing);
        await obraz.kill();
        await Promise.all(racing);
        client[Symbol.dispose]();
        // The line that a crash cut short; the next start cuts it off.
        await writeFile(file, '{"eventId":"torn', { flag: 'a' });
        await start();
      }
      await client.createDisk({ name: 'last-of-all' });
      await seen(about('last-of-all'));
      await rename(file, `${file}.1`);
      await client.createDisk({ name: 'after-all' });
      await seen(about('after-all'));
      const written = [...(await events(`${file}.1`)), ...(await events())];
      const ids = written.map(({ eventId }) => eventId);
      expect(new Set(ids).size).to.equal(ids.length);
      const created = written.flatMap(({ eventType, details }) =>
        eventType.endsWith('CreateDisk') ? [details['diskName']] : [],
      );
      expect(created.filter((name) => names.includes(name as string))).to.deep.equal(names);
      const { disks } = await unary(
        client.disks,
        client.disks.list,
        ListDisksRequest.fromPartial({ folderId: client.folderId, pageSize: 1000n }),
        client.metadata,
      );
      const isRacing = (name: unknown): boolean => String(name).startsWith('racing-');
      expect(created.filter(isRacing)).to.have.members(disks.map(({ name }) => name).filter(isRacing));
      const tailed = await command({ dataDirectory }, 'audit', 'tail', '-n', '1000');
      expect(tailed.status, tailed.err).to.equal(0);
      expect(tailed.out.trimEnd().split('\n')).to.deep.equal(
        (await Promise.all([readFile(`${file}.1`, 'utf8'), readFile(file, 'utf8')])).join('').trimEnd().split('\n'),
      );
      await follow(async () => {
        // Its token ends meanwhile: it goes on with the one that the administrator has by then.
        const tokenFile = path.join(dataDirectory, 'admin.token');
        const old = (await readFile(tokenFile, 'utf8')).trim();
        const { service_account_id: serviceAccountId } = await obraz.bootstrap();
        const tokens = new IamTokenServiceClient(client.address, credentials.createInsecure());
        const { iamToken } = await unary(tokens, tokens.createForServiceAccount, { serviceAccountId }, client.metadata);
        await writeFile(tokenFile, `${iamToken}\n`);
        await unary(tokens, tokens.revoke, { iamToken: old }, client.metadata);
        tokens.close();
        await sleep(3_000);
        client[Symbol.dispose]();
        client = await ObrazClient.of(obraz);
        await client.createDisk({ name: 'followed' });
      }, 'followed');
      await obraz.stop();
      const alone = await command({ dataDirectory }, 'audit', 'tail', '-n', '2');
      const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
      expect(alone.out).to.equal(`${lines.slice(-2).join('\n')}\n`);
    },
  );
});
