import { type ClientReadableStream, type Metadata, type ServiceError, credentials, status as codes } from '@grpc/grpc-js';
import { expect } from 'chai';
import { Progress, ProgressServiceClient } from '../../../generated/obraz/v1/progress.ts';
import { notFound, TransientError, unauthenticated } from '../../../src/platform/errors.ts';
import type { MethodsOf, ServiceParts } from '../../../src/transport/implement.ts';
import type { ProgressServiceService } from '../../../generated/obraz/v1/progress.ts';
import { everybodyMay } from '../../support/call.ts';
import { type TestServer, goodToken, headers, startTestServer, subject, until } from './test-server.ts';

type Watch = NonNullable<MethodsOf<typeof ProgressServiceService>['watch']>;

const progress = (bytesDone: number, phase = ''): Progress => Progress.fromPartial({ bytesDone: BigInt(bytesDone), phase });

describe('Methods that stream', () => {
  let test: TestServer;
  let client: ProgressServiceClient;

  const start = async (method?: Watch, parts: Partial<ServiceParts> = {}): Promise<void> => {
    test = await startTestServer({ progress: { watch: method }, parts });
    client = new ProgressServiceClient(test.address, credentials.createInsecure());
  };
  afterEach(async () => {
    client.close();
    await test.stop();
  });

  interface Watched {
    stream: ClientReadableStream<Progress>;
    received: bigint[];
    initial: () => Metadata | undefined;
    ended: Promise<ServiceError | undefined>;
  }

  function watch(operationId = 'fd8', metadata = headers()): Watched {
    const stream = client.watch({ operationId }, metadata);
    const received: bigint[] = [];
    let initial: Metadata | undefined;
    stream.on('metadata', (metadataReceived: Metadata) => (initial = metadataReceived));
    stream.on('data', ({ bytesDone }: Progress) => received.push(bytesDone));
    const ended = new Promise<ServiceError | undefined>((resolve) => {
      stream.once('error', resolve);
      stream.once('end', () => resolve(undefined));
    });
    return { stream, received, initial: () => initial, ended };
  }

  it('send their messages in order, each at once, then OK', async () => {
    const go = Promise.withResolvers<void>();
    await start(async function* () {
      yield progress(1);
      await go.promise;
      yield progress(2);
      yield progress(3);
    });
    const { received, ended, initial } = watch();
    await until(() => received.length === 1);
    expect(initial()?.get('x-request-id')).to.have.length(1);
    go.resolve();
    expect(await ended).to.equal(undefined);
    expect(received).to.deep.equal([1n, 2n, 3n]);
    await until(() => test.lines.length === 1);
    expect(test.lines[0]).to.include({ method: 'obraz.v1.ProgressService/Watch', code: 'OK' });
  });

  it('may send nothing, and still send headers', async () => {
    await start(async function* () {});
    const { received, ended, initial } = watch();
    expect(await ended).to.equal(undefined);
    expect([received.length, initial()?.get('x-request-id').length]).to.deep.equal([0, 1]);
  });

  it('are guarded like all others', async () => {
    await start(async function* () {
      yield progress(1);
    });
    const bad = headers();
    bad.set('authorization', `Bearer not-${goodToken}`);
    expect(await watch('fd8', bad).ended).to.include({ code: codes.UNAUTHENTICATED });
    const { ended, initial } = watch('');
    expect(await ended).to.include({ code: codes.INVALID_ARGUMENT, details: 'operation_id: must be given' });
    expect(initial()?.get('x-request-id')).to.have.length(1);
  });

  it('end when their token is good no more; not when that cannot be told', async () => {
    let checks = 0;
    let answer: () => typeof subject = () => subject;
    let reason: unknown;
    const authenticate = async () => {
      checks += 1;
      return answer();
    };
    const forEver: Watch = async function* (_, { signal }) {
      yield progress(1);
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      reason = signal.reason;
    };
    await start(forEver, { authenticate, recheckMs: 10 });
    const { received, ended } = watch();
    await until(() => received.length === 1 && checks > 3);
    answer = () => {
      throw new TransientError('The token could not be checked.');
    };
    const before = checks;
    await until(() => checks > before + 3);
    expect(reason).to.equal(undefined);
    answer = () => {
      throw unauthenticated();
    };
    expect(await ended).to.include({ code: codes.UNAUTHENTICATED, details: 'Token is invalid or has expired.' });
    await until(() => test.lines.length === 1);
    expect(test.lines[0]).to.include({ code: 'UNAUTHENTICATED' });
    expect(reason).to.include({ code: 'UNAUTHENTICATED' });
    const after = checks;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(checks).to.be.at.most(after + 1);
  });

  it('that tell of long work outlast the token, and end with the account', async () => {
    let checks = 0;
    let isActive = true;
    const access = {
      ...everybodyMay,
      isActive: async ({ id }: { id: string }) => {
        checks += 1;
        return isActive && id === subject.id;
      },
    };
    let tokens = 0;
    const authenticate = async () => {
      tokens += 1;
      return subject;
    };
    const longWork = new Set(['obraz.v1.ProgressService/Watch']);
    await start(
      async function* (_, { signal }) {
        yield progress(1);
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      },
      { authenticate, access, longWork, recheckMs: 10 },
    );
    const { received, ended } = watch();
    await until(() => received.length === 1 && checks > 3);
    isActive = false;
    expect(await ended).to.include({ code: codes.UNAUTHENTICATED });
    expect(tokens).to.equal(1);
  });

  it('answer UNIMPLEMENTED when they are missing', async () => {
    await start();
    expect(await watch().ended).to.include({
      code: codes.UNIMPLEMENTED,
      details: 'obraz.v1.ProgressService/Watch is not implemented',
    });
  });

  it('can fail before the first message and after it', async () => {
    await start(async function* ({ operationId }) {
      if (operationId === 'late') yield progress(1);
      throw notFound('Operation', operationId);
    });
    const early = watch('early');
    expect(await early.ended).to.include({ code: codes.NOT_FOUND, details: 'Operation early not found' });
    const late = watch('late');
    expect(await late.ended).to.include({ code: codes.NOT_FOUND, details: 'Operation late not found' });
    expect(late.received).to.deep.equal([1n]);
  });

  it('are not read faster than their client reads', async () => {
    let made = 0;
    await start(async function* () {
      for (; made < 2_000; made += 1) yield progress(made, 'x'.repeat(10_000));
    });
    const { stream, received, ended } = watch();
    stream.pause();
    // What fits into windows and buffers is sent: far less than all.
    await until(() => made > 0);
    let before = -1;
    while (before !== made) {
      before = made;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(made).to.be.within(1, 1_000);
    stream.resume();
    expect(await ended).to.equal(undefined);
    expect(received.length).to.equal(2_000);
  });

  it('hear of a client that goes away, and are ended', async () => {
    let cleaned = false;
    let reason: unknown;
    await start(async function* (_, { signal }) {
      try {
        for (let count = 0; ; count += 1) {
          yield progress(count);
          await new Promise<void>((resolve) => {
            setTimeout(resolve, 5);
            signal.addEventListener('abort', () => resolve(), { once: true });
          });
        }
      } finally {
        reason = signal.reason;
        cleaned = true;
      }
    });
    const { stream, received } = watch();
    stream.on('error', () => {});
    await until(() => received.length > 3);
    stream.cancel();
    await until(() => cleaned && test.lines.length === 1);
    expect(reason).to.include({ code: 'CANCELLED' });
    expect(test.lines[0]).to.include({ level: 'info', code: 'CANCELLED' });
  });

  it('are left behind when they do not listen', async () => {
    await start(async function* () {
      yield progress(1);
      await new Promise(() => {});
    });
    const { stream, received } = watch();
    stream.on('error', () => {});
    await until(() => received.length === 1);
    stream.cancel();
    await until(() => test.lines.length === 1);
    expect(test.lines[0]).to.include({ code: 'CANCELLED' });
  });

  it('end with UNAVAILABLE at once when the server stops', async () => {
    let reason: unknown;
    await start(async function* (_, { signal }) {
      yield progress(1);
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      reason = signal.reason;
    });
    const { received, ended } = watch();
    await until(() => received.length === 1);
    const stopping = test.stop();
    expect(await ended).to.include({ code: codes.UNAVAILABLE, details: 'The server is stopping. Call again.' });
    await stopping;
    expect(reason).to.include({ code: 'UNAVAILABLE' });
  });
});
