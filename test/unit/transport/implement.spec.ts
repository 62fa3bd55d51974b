import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { status as codes } from '@grpc/grpc-js';
import { expect } from 'chai';
import { RequestInfo } from '../../../generated/google/rpc/error_details.ts';
import { Image } from '../../../generated/yandex/cloud/compute/v1/image.ts';
import {
  CreateImageRequest,
  GetImageRequest,
  ImageServiceService,
  UpdateImageRequest,
} from '../../../generated/yandex/cloud/compute/v1/image_service.ts';
import { Operation } from '../../../generated/yandex/cloud/operation/operation.ts';
import type { Call } from '../../../src/iam/call.ts';
import { DomainError, TransientError, notFound } from '../../../src/platform/errors.ts';
import { implement } from '../../../src/transport/implement.ts';
import {
  type RawCall,
  type TestServer,
  type TestServerOptions,
  callRaw,
  goodToken,
  headers,
  startTestServer,
  subject,
  until,
  violationsIn,
} from './test-server.ts';

const service = '/yandex.cloud.compute.v1.ImageService';
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const getRequest = (imageId = 'fd8'): RawCall => ({
  path: `${service}/Get`,
  request: GetImageRequest.encode({ imageId }).finish(),
});
const createRequest = (request: Partial<CreateImageRequest>): Uint8Array =>
  CreateImageRequest.encode(CreateImageRequest.fromPartial({ folderId: 'b1g', ...request })).finish();

describe('The wrapper around methods', () => {
  let test: TestServer;
  afterEach(() => test.stop());

  const start = async (options: TestServerOptions = {}): Promise<void> => {
    test = await startTestServer({
      ...options,
      images: { get: async ({ imageId }) => Image.fromPartial({ id: imageId, name: 'an-image' }), ...options.images },
    });
  };
  const call = (raw: Partial<RawCall> = {}) => callRaw(test.client(), { ...getRequest(), ...raw });
  const lastLine = async (): Promise<Record<string, unknown>> => {
    await until(() => test.lines.length > 0);
    return test.lines.at(-1)!;
  };

  describe('answers', () => {
    it('with the method’s message and the ids of the call', async () => {
      await start();
      const { response, headers: received } = await call();
      expect(Image.decode(response!)).to.include({ id: 'fd8', name: 'an-image' });
      const [requestId] = received!.get('x-request-id');
      expect(requestId).to.match(uuid);
      expect(received!.get('x-server-request-id')).to.deep.equal([requestId]);
      expect(received!.get('x-server-trace-id')).to.deep.equal([requestId]);
    });

    for (const name of ['x-request-id', 'x-client-request-id']) {
      it(`under the client’s own id from ${name}, beside one that is the server’s`, async () => {
        await start();
        const id = '7b0e0a6e-4fd1-4e7c-9c3f-2d3d6c1f3f6a';
        const { headers: received } = await call({ metadata: headers({ [name]: id }) });
        expect(received!.get('x-request-id')).to.deep.equal([id]);
        expect(received!.get('x-server-request-id')[0]).to.match(uuid).and.not.equal(id);
      });
    }

    for (const bad of ['short', 'x'.repeat(65), 'has spaces in it', '"quoted-quoted"', '-leading-dash-']) {
      it(`under an id of its own when the client’s does not look like one: ${bad.slice(0, 20)}`, async () => {
        await start();
        const { headers: received } = await call({ metadata: headers({ 'x-request-id': bad }) });
        expect(received!.get('x-request-id')[0]).to.match(uuid);
      });
    }

    it('with the headers that the method has set', async () => {
      await start({
        images: {
          get: async ({ imageId }, { setHeader }) => {
            setHeader('x-operation-poll-interval', '5');
            return Image.fromPartial({ id: imageId });
          },
        },
      });
      const { headers: received } = await call();
      expect(received!.get('x-operation-poll-interval')).to.deep.equal(['5']);
      expect(received!.get('x-request-id')[0]).to.match(uuid);
    });

    it('with headers before every error, so that nodejs-sdk shows the ids', async () => {
      await start({
        images: {
          get: () => {
            throw notFound('Image', 'fd8');
          },
          list: () => Promise.reject(new TypeError('oops')),
        },
      });
      const expectHeaders = async (raw: Partial<RawCall>, code: number): Promise<void> => {
        const { error, headers: received, status } = await call(raw);
        expect(error?.code).to.equal(code);
        expect(received?.get('x-request-id')[0]).to.match(uuid);
        expect(status?.code).to.equal(code);
        const info = status!.details.find(({ typeUrl }) => typeUrl === 'type.googleapis.com/google.rpc.RequestInfo')!;
        expect(RequestInfo.decode(info.value).requestId).to.equal(received!.get('x-request-id')[0]);
      };
      await expectHeaders({}, codes.NOT_FOUND);
      await expectHeaders({ metadata: headers({ authorization: 'Bearer no' }) }, codes.UNAUTHENTICATED);
      await expectHeaders({ request: new Uint8Array() }, codes.INVALID_ARGUMENT);
      await expectHeaders({ path: `${service}/List`, request: Uint8Array.from([10, 1, 97]) }, codes.INTERNAL);
      await expectHeaders({ path: `${service}/Delete` }, codes.UNIMPLEMENTED);
    });
  });

  describe('lets in', () => {
    it('nobody without a good token', async () => {
      await start();
      for (const authorization of ['', 'Bearer', `Bearer ${goodToken}x`, goodToken, `Basic ${goodToken}`]) {
        const { error } = await call({ metadata: headers({ authorization }) });
        expect(error, authorization).to.include({ code: codes.UNAUTHENTICATED, details: 'Token is invalid or has expired.' });
      }
    });

    it('a token whatever the case of its scheme, and tells the method whose it is', async () => {
      let seen: Call['subject'];
      await start({
        images: {
          get: async (_, made) => {
            seen = made.subject;
            return Image.fromPartial({});
          },
        },
      });
      const { error } = await call({ metadata: headers({ authorization: `bearer  ${goodToken}` }) });
      expect(error).to.equal(undefined);
      expect(seen).to.deep.equal(subject);
    });

    it('everybody to methods that are open, without a subject, whatever token they bring', async () => {
      const subjects: unknown[] = [];
      await start({
        parts: { openMethods: new Set(['yandex.cloud.compute.v1.ImageService/Get']) },
        images: {
          get: async (_, made) => {
            subjects.push(made.subject);
            return Image.fromPartial({});
          },
        },
      });
      for (const authorization of ['', 'Bearer nonsense', `Bearer ${goodToken}`]) {
        expect((await call({ metadata: headers({ authorization }) })).error).to.equal(undefined);
      }
      expect(subjects).to.deep.equal([undefined, undefined, undefined]);
    });

    it('takes an answer about the caller that needs no waiting', async () => {
      await start({ parts: { authenticate: () => subject } });
      expect((await call()).error).to.equal(undefined);
    });

    it('nobody’s bytes before it knows who sends them', async () => {
      await start();
      const request = Uint8Array.from([0xff, 0xff, 0xff]);
      const stranger = await call({ request, metadata: headers({ authorization: 'Bearer no' }) });
      expect(stranger.error?.code).to.equal(codes.UNAUTHENTICATED);
      const known = await call({ request });
      expect(known.error).to.include({
        code: codes.INVALID_ARGUMENT,
        details: 'The request is not a message of the type that yandex.cloud.compute.v1.ImageService/Get takes.',
      });
    });

    it('no oversized authorization and no idempotency key that cannot be kept', async () => {
      await start();
      const long = await call({ metadata: headers({ authorization: `Bearer ${'x'.repeat(10_000)}` }) });
      expect(long.error).to.include({
        code: codes.INVALID_ARGUMENT,
        details: 'authorization: the header must have at most 10000 bytes, has 10007',
      });
      expect(long.error?.details).to.not.include('xxx');
      const key = await call({ metadata: headers({ 'idempotency-key': 'k'.repeat(129) }) });
      expect(violationsIn(key)).to.deep.equal([
        'idempotency-key: the header must have at most 128 printable characters, has 129',
      ]);
    });

    it('no message above 4 MiB', async () => {
      await start();
      const { error } = await call({ request: new Uint8Array(4 * 1024 * 1024 + 1) });
      expect(error?.code).to.equal(codes.RESOURCE_EXHAUSTED);
    });
  });

  describe('checks requests', () => {
    it('and tells all violations at once, in details and text', async () => {
      await start();
      const outcome = await call({
        path: `${service}/Create`,
        request: createRequest({ folderId: '', name: 'Bad', minDiskSize: 1n }),
      });
      // Create has no method here: the request is not looked at.
      expect(outcome.error?.code).to.equal(codes.UNIMPLEMENTED);
      await test.stop();
      await start({ images: { create: async () => Operation.fromPartial({}) } });
      const checked = await call({
        path: `${service}/Create`,
        request: createRequest({ folderId: '', name: 'Bad', minDiskSize: 1n }),
      });
      expect(checked.error?.code).to.equal(codes.INVALID_ARGUMENT);
      expect(violationsIn(checked)).to.deep.equal([
        'folder_id: must be given',
        'name: "Bad" does not match |[a-z]([-_a-z0-9]{0,61}[a-z0-9])?',
        'min_disk_size: must be between 4194304 and 4398046511104, is 1',
      ]);
      expect(checked.error?.details).to.equal(violationsIn(checked).join('; '));
    });

    it('for text that is not UTF-8, by field', async () => {
      await start();
      const request = new BinaryWriter()
        .uint32(10)
        .bytes(Uint8Array.from([0x61, 0xff]))
        .finish();
      expect(violationsIn(await call({ request }))).to.deep.equal(['image_id: must be valid UTF-8']);
    });

    it('and ignores fields that it does not know, as protobuf asks', async () => {
      await start();
      const request = new BinaryWriter()
        .uint32(10)
        .string('fd8')
        .uint32((999 << 3) | 2)
        .string('later')
        .finish();
      expect((await call({ request })).error).to.equal(undefined);
    });
  });

  describe('turns errors into statuses', () => {
    const failing = (error: unknown): TestServerOptions => ({
      images: {
        get: async () => {
          throw error;
        },
      },
    });

    it('keeping code and text of the caller’s fault, also when it is thrown at once', async () => {
      await start({
        images: {
          get: () => {
            throw new DomainError('FAILED_PRECONDITION', 'Образ занят: 100% "%"');
          },
        },
      });
      expect((await call()).error).to.include({ code: codes.FAILED_PRECONDITION, details: 'Образ занят: 100% "%"' });
    });

    it('making the world’s fault UNAVAILABLE, which clients retry', async () => {
      await start(failing(new TransientError('The database does not answer.')));
      expect((await call()).error).to.include({ code: codes.UNAVAILABLE, details: 'The database does not answer.' });
    });

    it('hiding our own fault from the caller, and logging it with its stack', async () => {
      await start(failing(new TypeError('cannot read properties of undefined')));
      const { error, headers: received } = await call();
      const requestId = String(received!.get('x-request-id')[0]);
      expect(error).to.include({ code: codes.INTERNAL, details: `Internal error, request id ${requestId}` });
      const line = await lastLine();
      expect(line).to.include({ level: 'error', code: 'INTERNAL', requestId });
      expect(line['err']).to.include({ type: 'TypeError', message: 'cannot read properties of undefined' });
      expect((line['err'] as { stack: string }).stack).to.include('implement.spec.ts');
    });

    it('surviving texts that gRPC cannot carry', async () => {
      await start(failing(new DomainError('NOT_FOUND', `\ud800 ${'x'.repeat(100_000)}`)));
      const { error } = await call();
      expect(error?.code).to.equal(codes.NOT_FOUND);
      expect(error?.details.length).to.be.within(1000, 3000);
    });

    it('surviving details that cannot be encoded', async () => {
      const violation = { metric: 'm', limit: 0.5, usage: 0, required: 0 };
      await start(
        failing(new DomainError('RESOURCE_EXHAUSTED', 'text', [{ kind: 'quotaFailure', cloudId: 'c', violations: [violation] }])),
      );
      expect((await call()).error?.code).to.equal(codes.INTERNAL);
      expect((await lastLine())['err']).to.include({ type: 'RangeError' });
    });

    it('surviving answers that cannot be encoded', async () => {
      await start({ images: { get: async () => ({ ...Image.fromPartial({}), size: 'much' as unknown as bigint }) } });
      expect((await call()).error?.code).to.equal(codes.INTERNAL);
      expect(await lastLine()).to.include({ level: 'error', code: 'INTERNAL' });
    });

    it('naming the method that is missing', async () => {
      await start();
      expect((await call({ path: `${service}/Delete` })).error).to.include({
        code: codes.UNIMPLEMENTED,
        details: 'yandex.cloud.compute.v1.ImageService/Delete is not implemented',
      });
      expect((await call({ path: '/no.such.Service/Get' })).error?.code).to.equal(codes.UNIMPLEMENTED);
    });
  });

  describe('shows a method its call', () => {
    const seeing = (look: (seen: Call) => void): TestServerOptions => ({
      images: {
        get: async (_, made) => {
          look(made);
          return Image.fromPartial({});
        },
      },
    });

    it('with names, ids and where it came in', async () => {
      const seen: Partial<Call>[] = [];
      await start(
        seeing(({ method, requestId, authority, secure, idempotencyKey }) =>
          seen.push({ method, requestId, authority, secure, idempotencyKey }),
        ),
      );
      const { headers: received } = await call({ metadata: headers({ 'idempotency-key': 'key 1' }) });
      expect(seen).to.deep.equal([
        {
          method: 'yandex.cloud.compute.v1.ImageService/Get',
          requestId: received!.get('x-request-id')[0],
          authority: test.address,
          secure: false,
          idempotencyKey: 'key 1',
        },
      ]);
    });

    it('with an EntityManager of its own, made when it is asked for', async () => {
      let forks = 0;
      const managers: unknown[] = [];
      await start({
        ...seeing((seen) => {
          if (forks < 2) managers.push(seen.em, seen.em);
        }),
        parts: { forkEm: () => ({ fork: (forks += 1) }) as never },
      });
      await call();
      await call();
      await call();
      expect(managers).to.deep.equal([{ fork: 1 }, { fork: 1 }, { fork: 2 }, { fork: 2 }]);
      expect(forks).to.equal(2);
    });

    it('with bytes of the request that do not depend on the order of map entries', async () => {
      const bytes: string[] = [];
      await start({
        images: {
          create: async (_, made) => {
            bytes.push(Buffer.from(made.requestBytes()).toString('hex'));
            return Operation.fromPartial({});
          },
          update: async (_, made) => {
            bytes.push(Buffer.from(made.requestBytes()).toString('hex'));
            return Operation.fromPartial({});
          },
        },
      });
      const path = `${service}/Create`;
      const source = { $case: 'uri', value: 'https://a' } as const;
      await call({ path, request: createRequest({ labels: { a: '1', b: '2' }, source, productIds: ['y', 'x'] }) });
      await call({ path, request: createRequest({ labels: { b: '2', a: '1' }, source, productIds: ['y', 'x'] }) });
      await call({ path, request: createRequest({ labels: { b: '2', a: '1' }, source, productIds: ['x', 'y'] }) });
      const update = UpdateImageRequest.encode(UpdateImageRequest.fromPartial({ imageId: 'a', updateMask: ['name'] })).finish();
      await call({ path: `${service}/Update`, request: update });
      expect(bytes[1]).to.equal(bytes[0]).and.not.equal(bytes[2]);
      expect(CreateImageRequest.decode(Buffer.from(bytes[0]!, 'hex'))).to.deep.include({ labels: { a: '1', b: '2' }, source });
      expect(bytes[3]).to.equal(Buffer.from(update).toString('hex'));
    });
  });

  describe('tells a method that nobody waits any more', () => {
    it('when the client cancels', async () => {
      const started = Promise.withResolvers<AbortSignal>();
      await start({
        images: {
          get: async (_, { signal }) => {
            started.resolve(signal);
            await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
            return Image.fromPartial({});
          },
        },
      });
      const pending = test.images.get({ imageId: 'fd8' }, headers(), () => {});
      const signal = await started.promise;
      expect(signal.aborted).to.equal(false);
      pending.cancel();
      expect(await lastLine()).to.include({ level: 'info', code: 'CANCELLED' });
      expect(signal.reason).to.be.instanceOf(DomainError).and.include({ code: 'CANCELLED' });
    });

    it('when its deadline has passed', async () => {
      let reason: unknown;
      await start({
        images: {
          get: async (_, { signal }) => {
            await new Promise((resolve) => signal.addEventListener('abort', resolve));
            reason = signal.reason;
            // What comes of it after the end is no news.
            throw Object.assign(new Error('This operation was aborted'), { name: 'AbortError' });
          },
        },
      });
      // Told to the server alone: a client that keeps it as well may be the first to end the call, and then only it knows why.
      const pending = await call({ metadata: headers({ 'grpc-timeout': '200m' }) });
      expect(pending.error?.code).to.equal(codes.DEADLINE_EXCEEDED);
      expect(await lastLine()).to.include({ level: 'info', code: 'DEADLINE_EXCEEDED' });
      expect(reason).to.include({ code: 'DEADLINE_EXCEEDED' });
    });

    it('also when it looks only afterwards', async () => {
      const release = Promise.withResolvers<void>();
      const started = Promise.withResolvers<void>();
      let aborted: boolean | undefined;
      await start({
        images: {
          get: async (_, made) => {
            started.resolve();
            await release.promise;
            aborted = made.signal.aborted;
            return Image.fromPartial({});
          },
        },
      });
      const cancelled = new Promise((resolve) => {
        const pending = test.images.get({ imageId: 'fd8' }, headers(), resolve);
        void started.promise.then(() => pending.cancel());
      });
      await cancelled;
      // On the same connection: the server hears of the cancellation before it hears of this.
      await new Promise((resolve) => test.images.delete({ imageId: 'fd8' }, headers(), resolve));
      release.resolve();
      await until(() => test.lines.length === 2);
      expect(aborted).to.equal(true);
      expect(test.lines.at(-1)).to.include({ code: 'CANCELLED' });
    });

    it('but never after a good answer', async () => {
      let signal: AbortSignal | undefined;
      await start({
        images: {
          get: async (_, made) => {
            signal = made.signal;
            return Image.fromPartial({});
          },
        },
      });
      await new Promise((resolve) => test.images.get({ imageId: 'fd8' }, headers(), resolve));
      await new Promise((resolve) => test.images.delete({ imageId: 'fd8' }, headers(), resolve));
      expect(signal?.aborted).to.equal(false);
    });

    it('and still logs a fault of ours that comes then', async () => {
      const started = Promise.withResolvers<void>();
      await start({
        images: {
          get: async (_, { signal }) => {
            started.resolve();
            await new Promise((resolve) => signal.addEventListener('abort', resolve));
            throw new TypeError('a bug in the clean-up');
          },
        },
      });
      const pending = test.images.get({ imageId: 'fd8' }, headers(), () => {});
      await started.promise;
      pending.cancel();
      const line = await lastLine();
      expect(line).to.include({ level: 'error' });
      expect(line['err']).to.include({ message: 'a bug in the clean-up' });
    });
  });

  describe('leaves in the log', () => {
    it('one line per call, with who, what, how and how long', async () => {
      await start();
      await call({ metadata: headers({ 'x-client-trace-id': 'trace-1', 'idempotency-key': 'k' }) });
      await call({ path: `${service}/Delete` });
      await until(() => test.lines.length === 2);
      const { time, durationMs, requestId, serverRequestId, peer, userAgent, ...rest } = test.lines[0]!;
      expect(rest).to.deep.equal({
        level: 'info',
        method: 'yandex.cloud.compute.v1.ImageService/Get',
        code: 'OK',
        clientTraceId: 'trace-1',
        subject: 'ajetester',
        msg: 'call',
      });
      expect(time).to.be.a('string');
      expect(durationMs).to.be.a('number').and.greaterThan(0);
      expect(requestId).to.equal(serverRequestId);
      expect(peer).to.match(/^127\.0\.0\.1:\d+$/);
      expect(userAgent).to.match(/^grpc-node/);
      expect(test.lines[1]).to.include({ code: 'UNIMPLEMENTED' });
    });

    it('never a token or anything of the request', async () => {
      await start({ images: { create: async () => Operation.fromPartial({}) } });
      const secret = 'https://user:pass@host/secret-path?signature=abc';
      const path = `${service}/Create`;
      await call({ path, request: createRequest({ name: 'Secret-Name', source: { $case: 'uri', value: secret } }) });
      await call({ path, request: createRequest({ name: 'secret-name', source: { $case: 'uri', value: secret } }) });
      await call({ metadata: headers({ authorization: 'Bearer t1.secret-token.sig' }) });
      await until(() => test.lines.length === 3);
      const text = JSON.stringify(test.lines);
      expect(text).to.not.match(/secret/i);
      expect(text).to.not.include(goodToken);
    });
  });

  it('counts calls by method and code, and their time', async () => {
    await start();
    await call();
    await call();
    await call({ request: new Uint8Array() });
    const { body } = await test.metrics.render();
    const method = 'yandex.cloud.compute.v1.ImageService/Get';
    expect(body).to.include(`obraz_grpc_calls_total{method="${method}",code="OK"} 2`);
    expect(body).to.include(`obraz_grpc_calls_total{method="${method}",code="INVALID_ARGUMENT"} 1`);
    expect(body).to.include(`obraz_grpc_call_seconds_count{method="${method}"} 3`);
    expect(body).to.include('obraz_grpc_running_calls 0');
  });

  it('is not made of methods that the service does not have', async () => {
    await start();
    const methods = { get: async () => Image.fromPartial({}), fetch: async () => Image.fromPartial({}) };
    expect(() => implement(ImageServiceService, methods, {} as never)).to.throw('the service has no methods fetch');
  });
});
