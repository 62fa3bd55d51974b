import { type Client, type ServiceError, credentials, makeGenericClientConstructor, status as codes } from '@grpc/grpc-js';
import { expect } from 'chai';
import { service as definition } from 'grpc-health-check';
import { type Health, createHealth } from '../../../src/transport/health.ts';
import { type TestServer, startTestServer, until } from './test-server.ts';

interface HealthClient extends Client {
  check(request: { service?: string }, answer: (error: ServiceError | null, response: { status: string }) => void): void;
  list(
    request: object,
    answer: (error: ServiceError | null, response: { statuses: Record<string, { status: string }> }) => void,
  ): void;
  watch(request: { service?: string }): NodeJS.EventEmitter & { cancel(): void };
}

const images = 'yandex.cloud.compute.v1.ImageService';

describe('Health', () => {
  let health: Health;
  let test: TestServer;
  let client: HealthClient;

  beforeEach(async () => {
    health = createHealth([images]);
    test = await startTestServer({ services: [health.service], graceMs: 600_000 });
    client = new (makeGenericClientConstructor(definition, 'Health'))(
      test.address,
      credentials.createInsecure(),
    ) as unknown as HealthClient;
  });
  afterEach(async () => {
    client.close();
    await test.stop();
  });

  const check = (service?: string): Promise<string | number> =>
    new Promise((resolve) =>
      client.check(service === undefined ? {} : { service }, (error, response) => resolve(error?.code ?? response.status)),
    );

  function watch(service: string) {
    const seen: string[] = [];
    const stream = client.watch({ service });
    stream.on('data', ({ status }: { status: string }) => seen.push(status));
    const ended = new Promise<number | undefined>((resolve) => {
      stream.once('error', ({ code }: ServiceError) => resolve(code));
      stream.once('end', () => resolve(undefined));
    });
    return { seen, stream, ended };
  }

  it('is NOT_SERVING until it is told otherwise, for the server and each service, without a token', async () => {
    expect([await check(), await check(''), await check(images), await check('grpc.health.v1.Health')]).to.deep.equal(
      Array.from({ length: 4 }, () => 'NOT_SERVING'),
    );
    health.setServing(true);
    expect([await check(), await check(images)]).to.deep.equal(['SERVING', 'SERVING']);
    health.setServing(false);
    expect([await check(), await check(images)]).to.deep.equal(['NOT_SERVING', 'NOT_SERVING']);
  });

  it('is NOT_FOUND for services that are not there, whatever their names', async () => {
    for (const name of ['no.such.Service', '__proto__', 'x'.repeat(1_000_000)])
      expect(await check(name)).to.equal(codes.NOT_FOUND);
  });

  it('lists all services', async () => {
    health.setServing(true);
    const statuses = await new Promise((resolve) => client.list({}, (_, response) => resolve(response.statuses)));
    expect(statuses).to.deep.equal({
      '': { status: 'SERVING' },
      'grpc.health.v1.Health': { status: 'SERVING' },
      [images]: { status: 'SERVING' },
    });
  });

  it('tells watchers of every change', async () => {
    const { seen, stream } = watch(images);
    stream.on('error', () => {});
    await until(() => seen.length === 1);
    health.setServing(true);
    await until(() => seen.length === 2);
    health.setServing(false);
    await until(() => seen.length === 3);
    expect(seen).to.deep.equal(['NOT_SERVING', 'SERVING', 'NOT_SERVING']);
    stream.cancel();
  });

  it('keeps those waiting who watch what is not there, as the protocol asks, and remembers nothing of them', async () => {
    const watchers = Array.from({ length: 20 }, (_, index) => watch(`no.such.Service${index}`));
    await until(() => watchers.every(({ seen }) => seen[0] === 'SERVICE_UNKNOWN'));
    health.setServing(true);
    expect(await check('')).to.equal('SERVING');
    for (const { seen, stream } of watchers) {
      expect(seen).to.deep.equal(['SERVICE_UNKNOWN']);
      stream.on('error', () => {});
      stream.cancel();
    }
  });

  it('lets watchers go when the server stops', async () => {
    const known = watch('');
    const unknown = watch('no.such.Service');
    await until(() => known.seen.length === 1 && unknown.seen.length === 1);
    health.setServing(false);
    const stopped = test.server[Symbol.asyncDispose]();
    expect([await known.ended, await unknown.ended]).to.deep.equal([undefined, undefined]);
    await stopped;
  });
});
