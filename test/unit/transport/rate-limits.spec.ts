// Limits on a real server; the clock of the limits is a test's.
import { type Client, type ServiceError, credentials, makeGenericClientConstructor, status as codes } from '@grpc/grpc-js';
import { expect } from 'chai';
import { service as healthDefinition } from 'grpc-health-check';
import { ErrorInfo, RetryInfo } from '../../../generated/google/rpc/error_details.ts';
import { Image } from '../../../generated/yandex/cloud/compute/v1/image.ts';
import { GetImageRequest } from '../../../generated/yandex/cloud/compute/v1/image_service.ts';
import { type DomainError, unauthenticated } from '../../../src/platform/errors.ts';
import { Metrics } from '../../../src/platform/metrics.ts';
import { RateLimits, type Rates } from '../../../src/transport/rate-limits.ts';
import { withStandardServices } from '../../../src/transport/standard-services.ts';
import { callRaw, descriptors, goodToken, headers, type Outcome, startTestServer, type TestServer } from './test-server.ts';

const off: Rates = {
  subjectChangesPerSecond: 0,
  subjectCallsPerSecond: 0,
  addressCallsPerSecond: 0,
  failedAuthenticationsPerMinute: 0,
};

describe('Rate limits', () => {
  let now: number;
  let metrics: Metrics;
  let test: TestServer | undefined;
  afterEach(() => test?.stop());

  const limits = (rates: Partial<Rates>): RateLimits => {
    metrics = new Metrics();
    return new RateLimits({ ...off, ...rates }, metrics, () => now);
  };
  beforeEach(() => {
    now = 1e6;
  });

  const start = async (rates: Partial<Rates>, parts: Parameters<typeof startTestServer>[0] = {}): Promise<void> => {
    const limiting = limits(rates);
    const { services } = withStandardServices(descriptors, [], limiting);
    test = await startTestServer({
      services,
      images: { get: async ({ imageId }) => Image.fromPartial({ id: imageId }) },
      ...parts,
      parts: { limits: limiting, ...parts.parts },
    });
  };

  const get = (metadata = headers()): Promise<Outcome> =>
    callRaw(test!.client(), {
      path: '/yandex.cloud.compute.v1.ImageService/Get',
      request: GetImageRequest.encode({ imageId: 'fd8' }).finish(),
      metadata,
    });

  const codesOf = async (count: number, call: () => Promise<Outcome>): Promise<number[]> => {
    const outcomes: number[] = [];
    for (let index = 0; index < count; index += 1) outcomes.push((await call()).error?.code ?? codes.OK);
    return outcomes;
  };

  for (const [whose, rates] of [
    ['a subject', { subjectCallsPerSecond: 1 }],
    ['an address', { addressCallsPerSecond: 1 }],
  ] as const) {
    it(`refuse what ${whose} calls too often, and say when to call again`, async () => {
      await start(rates);
      expect(await codesOf(6, get)).to.deep.equal([0, 0, 0, 0, 0, codes.RESOURCE_EXHAUSTED]);
      now += 600;
      const { error, status } = await get();
      expect(error!.code).to.equal(codes.RESOURCE_EXHAUSTED);
      expect(error!.details).to.match(/^Too many calls .*: at most 1 per second\. Try again in 400 ms$/);
      expect(error!.metadata.get('retry-after')).to.deep.equal(['1']);
      expect(error!.metadata.get('grpc-retry-pushback-ms')).to.deep.equal(['400']);
      const detail = (name: string) => status!.details.find(({ typeUrl }) => typeUrl.endsWith(`.${name}`))!.value;
      expect(RetryInfo.decode(detail('RetryInfo')).retryDelay!.nanos).to.be.closeTo(4e8, 1e6);
      expect(ErrorInfo.decode(detail('ErrorInfo')).reason).to.equal('RATE_LIMIT_EXCEEDED');
      now += 400;
      expect(await codesOf(2, get)).to.deep.equal([0, codes.RESOURCE_EXHAUSTED]);
      expect((await metrics.render()).body).to.match(
        new RegExp(`obraz_rate_limited_calls_total\\{limit="${whose.split(' ')[1]}"\\} 3`),
      );
    });
  }

  it('refuse changes before other calls; a large plan is one burst', () => {
    const limiting = limits({ subjectChangesPerSecond: 2, subjectCallsPerSecond: 1000 });
    const change = (): string => {
      try {
        limiting.admitChange('aje', '192.0.2.1:1');
        return 'let in';
      } catch (error) {
        return (error as Error).message;
      }
    };
    for (let index = 0; index < 120; index += 1) expect(change()).to.equal('let in');
    expect(change()).to.equal('Too many changes of aje: at most 2 per second. Try again in 500 ms');
    limiting.admitSubject('aje');
    limiting.admitChange('other', '192.0.2.1:1');
    limiting.admitChange(undefined, '192.0.2.1:1');
    now += 500;
    expect([change(), change()]).to.deep.equal(['let in', 'Too many changes of aje: at most 2 per second. Try again in 500 ms']);
  });

  it('look at no token after too many bad ones, but serve those that are known', async () => {
    let looked = 0;
    const limiting = limits({ failedAuthenticationsPerMinute: 3 });
    const known = new Set<string>();
    await start(
      {},
      {
        parts: {
          limits: limiting,
          authenticate: (token, { peer }) => {
            if (token !== undefined && known.has(token)) return { id: 'aje', type: 'serviceAccount' };
            return limiting.attempt(peer, async () => {
              looked += 1;
              if (token !== goodToken) throw unauthenticated();
              known.add(token);
              return { id: 'aje', type: 'serviceAccount' };
            });
          },
        },
      },
    );
    const bad = () => get(headers({ authorization: 'Bearer t1.bad.token' }));
    expect(await codesOf(1, get)).to.deep.equal([0]);
    expect(await codesOf(5, bad)).to.deep.equal([
      ...[1, 2, 3].map(() => codes.UNAUTHENTICATED),
      ...[1, 2].map(() => codes.RESOURCE_EXHAUSTED),
    ]);
    expect(looked).to.equal(4);
    expect(await codesOf(3, get)).to.deep.equal([0, 0, 0]);
    known.clear();
    expect(await codesOf(1, get)).to.deep.equal([codes.RESOURCE_EXHAUSTED]);
    now += 20_000;
    expect(await codesOf(5, get)).to.deep.equal([0, 0, 0, 0, 0]);
  });

  it('let many honest first calls of a moment in, and look once at a token that comes many times', async () => {
    const limiting = limits({ failedAuthenticationsPerMinute: 3 });
    const gate = Promise.withResolvers<void>();
    let looked = 0;
    const look = (token: string | undefined, isGood: boolean): Promise<string> =>
      limiting
        .attempt(
          '192.0.2.1:1',
          async () => {
            looked += 1;
            await gate.promise;
            if (!isGood) throw unauthenticated();
            return 'good';
          },
          token,
        )
        .catch((error: DomainError) => error.code);
    const honest = Array.from({ length: 500 }, (_, index) => look(`t${index}`, true));
    const same = Array.from({ length: 500 }, () => look('the same', true));
    const bad = Array.from({ length: 10 }, (_, index) => look(`bad${index}`, false));
    const most = Array.from({ length: 500 }, () => look(undefined, true));
    gate.resolve();
    expect(new Set(await Promise.all([...honest, ...same]))).to.deep.equal(new Set(['good']));
    expect(new Set(await Promise.all(bad))).to.deep.equal(new Set(['UNAUTHENTICATED']));
    // So many at once, and no more: what is under way may fail.
    const outcomes = await Promise.all(most);
    expect(looked).to.equal(1_000);
    expect(outcomes.filter((outcome) => outcome === 'RESOURCE_EXHAUSTED')).to.have.length(11);
    // Ten have failed where three may: the other seven are owed.
    now += 7 * 20_000;
    expect(await look('late', true)).to.equal('RESOURCE_EXHAUSTED');
    now += 20_000;
    expect(await look('late', true)).to.equal('good');
  });

  it('hold a subject and an address apart that have one name', () => {
    const limiting = limits({ subjectChangesPerSecond: 1 });
    for (let index = 0; index < 60; index += 1) limiting.admitChange('192.0.2.1', '198.51.100.7:1');
    expect(() => limiting.admitChange('192.0.2.1', '198.51.100.7:1')).to.throw('Too many changes of 192.0.2.1');
    limiting.admitChange(undefined, '192.0.2.1:1');
  });

  it('count the proofs of an open method, and only those that prove nothing', async () => {
    let good = true;
    const method = 'yandex.cloud.compute.v1.ImageService/Get';
    await start(
      { failedAuthenticationsPerMinute: 2 },
      {
        images: {
          get: async () => {
            if (!good) throw unauthenticated();
            return Image.fromPartial({});
          },
        },
        parts: {
          limits: limits({ failedAuthenticationsPerMinute: 2 }),
          openMethods: new Set([method]),
          provingMethods: new Set([method]),
        },
      },
    );
    expect(await codesOf(5, get)).to.deep.equal([0, 0, 0, 0, 0]);
    good = false;
    expect(await codesOf(3, get)).to.deep.equal([codes.UNAUTHENTICATED, codes.UNAUTHENTICATED, codes.RESOURCE_EXHAUSTED]);
  });

  it('hold for health and reflection, too, whose calls need no token', async () => {
    await start({ addressCallsPerSecond: 1 });
    const HealthClient = makeGenericClientConstructor(healthDefinition, 'Health');
    const health = new HealthClient(test!.address, credentials.createInsecure()) as unknown as Client & {
      check(request: object, answer: (error: ServiceError | null) => void): void;
      watch(request: object): NodeJS.EventEmitter;
    };
    try {
      const check = (): Promise<number> => new Promise((resolve) => health.check({}, (error) => resolve(error?.code ?? 0)));
      for (let index = 0; index < 5; index += 1) expect(await check()).to.equal(0);
      expect(await check()).to.equal(codes.RESOURCE_EXHAUSTED);
      const watched = await new Promise<number>((resolve) =>
        health.watch({}).once('error', ({ code }: ServiceError) => resolve(code)),
      );
      expect(watched).to.equal(codes.RESOURCE_EXHAUSTED);
    } finally {
      health.close();
    }
    // Each question of a reflection stream is a call.
    now += 3_000;
    const raw = test!.client();
    const stream = raw.makeBidiStreamRequest(
      '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
      (bytes: Uint8Array) => Buffer.from(bytes),
      (bytes: Buffer) => bytes,
    );
    const ended = new Promise<ServiceError>((resolve) => stream.once('error', resolve));
    let answers = 0;
    stream.on('data', () => (answers += 1));
    // list_services = ""
    for (let index = 0; index < 5; index += 1) stream.write(Buffer.from([0x3a, 0]));
    expect((await ended).code).to.equal(codes.RESOURCE_EXHAUSTED);
    // One of the three was the stream itself.
    expect(answers).to.equal(2);
  });

  it('are asked before a token of a megabyte is looked at; the server bears such headers', async () => {
    await start({});
    const huge = await get(headers({ authorization: `Bearer ${'x'.repeat(1024 * 1024)}` })).catch((error: ServiceError) => ({
      error,
    }));
    expect(huge.error).to.be.an('error');
    expect(huge.error!.code).to.not.equal(codes.OK);
    const long = await get(headers({ authorization: `Bearer ${'x'.repeat(20_000)}` }));
    expect(long.error!.code).to.equal(codes.INVALID_ARGUMENT);
    expect(await codesOf(1, get)).to.deep.equal([0]);
  });
});
