// A real server with methods of a test, and real clients of it.
import { Client, type ClientOptions, Metadata, type ServiceError, credentials } from '@grpc/grpc-js';
import type { EntityManager } from '@mikro-orm/postgresql';
import { ProgressServiceService } from '../../../generated/obraz/v1/progress.ts';
import { ImageServiceClient, ImageServiceService } from '../../../generated/yandex/cloud/compute/v1/image_service.ts';
import { Status } from '../../../generated/google/rpc/status.ts';
import { BadRequest } from '../../../generated/google/rpc/error_details.ts';
import { unauthenticated } from '../../../src/platform/errors.ts';
import { createLog } from '../../../src/platform/log.ts';
import { Metrics } from '../../../src/platform/metrics.ts';
import { loadDescriptors } from '../../../src/transport/descriptors.ts';
import { type MethodsOf, type ServiceParts, implement } from '../../../src/transport/implement.ts';
import { createRequestMetrics } from '../../../src/transport/request-metrics.ts';
import { type GrpcServer, type GrpcServerOptions, startGrpcServer } from '../../../src/transport/server.ts';
import { createValidator } from '../../../src/transport/validation.ts';
import { everybodyMay } from '../../support/call.ts';

export const descriptors = loadDescriptors();
const validator = createValidator(descriptors);

export const goodToken = 't1.good.token';
export const subject = { id: 'ajetester', type: 'serviceAccount' };

export interface TestServerOptions extends Partial<GrpcServerOptions> {
  images?: MethodsOf<typeof ImageServiceService>;
  progress?: MethodsOf<typeof ProgressServiceService>;
  parts?: Partial<ServiceParts>;
}

export interface TestServer extends AsyncDisposable {
  server: GrpcServer;
  address: string;
  images: ImageServiceClient;
  /** What was logged. */
  lines: Record<string, unknown>[];
  metrics: Metrics;
  /** Clients that end with the server. */
  client(options?: ClientOptions): Client;
  stop(): Promise<void>;
}

export async function startTestServer({ images, progress, parts, ...options }: TestServerOptions = {}): Promise<TestServer> {
  const lines: Record<string, unknown>[] = [];
  const log = createLog({
    level: 'info',
    destination: { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
  });
  const metrics = new Metrics();
  const serviceParts: ServiceParts = {
    authenticate: async (token) => {
      if (token !== goodToken) throw unauthenticated();
      return subject;
    },
    forkEm: () => ({ forked: true }) as unknown as EntityManager,
    access: everybodyMay,
    validator,
    log,
    metrics: createRequestMetrics(metrics, descriptors),
    openMethods: new Set(),
    ...parts,
  };
  const server = await startGrpcServer({
    plaintextAddress: '127.0.0.1:0',
    log,
    graceMs: 3_000,
    ...options,
    services: [
      implement(ImageServiceService, images ?? {}, serviceParts),
      implement(ProgressServiceService, progress ?? {}, serviceParts),
      ...(options.services ?? []),
    ],
  });
  const address = server.plaintextAddress!;
  const clients: Client[] = [];
  const add = <Kind extends Client>(client: Kind): Kind => {
    clients.push(client);
    return client;
  };
  const stop = async (): Promise<void> => {
    for (const client of clients) client.close();
    await server[Symbol.asyncDispose]();
  };
  return {
    server,
    address,
    lines,
    metrics,
    images: add(new ImageServiceClient(address, credentials.createInsecure())),
    client: (clientOptions) => add(new Client(address, credentials.createInsecure(), clientOptions)),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

export function headers(values: Record<string, string> = {}): Metadata {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${goodToken}`);
  for (const [name, value] of Object.entries(values)) metadata.set(name, value);
  return metadata;
}

export interface Outcome {
  response?: Buffer;
  error?: ServiceError;
  /** Initial metadata, undefined when there was none (trailers only). */
  headers?: Metadata;
  /** Decoded from grpc-status-details-bin. */
  status?: Status;
}

export interface RawCall {
  path: string;
  request: Uint8Array;
  metadata?: Metadata;
  deadline?: number;
}

/** A unary call in bytes; everything that comes back. */
export function callRaw(client: Client, { path, request, metadata = headers(), deadline }: RawCall): Promise<Outcome> {
  return new Promise((resolve) => {
    let initial: Metadata | undefined;
    const call = client.makeUnaryRequest(
      path,
      (bytes: Uint8Array) => Buffer.from(bytes),
      (bytes: Buffer) => bytes,
      request,
      metadata,
      deadline === undefined ? {} : { deadline },
      (error, response) => {
        const details = error?.metadata?.get('grpc-status-details-bin')[0];
        resolve({
          ...(initial === undefined ? {} : { headers: initial }),
          ...(error === null ? { response: response! } : { error }),
          ...(details === undefined ? {} : { status: Status.decode(details as Buffer) }),
        });
      },
    );
    call.on('metadata', (received: Metadata) => (initial = received));
  });
}

/** The violations of an outcome as `field: description`. */
export const violationsIn = ({ status }: Outcome): string[] =>
  (status?.details ?? [])
    .filter(({ typeUrl }) => typeUrl.endsWith('BadRequest'))
    .flatMap(({ value }) => BadRequest.decode(value).fieldViolations)
    .map(({ field, description }) => `${field}: ${description}`);

/** Waits for something that another party does, a long time if need be. */
export async function until(condition: () => boolean): Promise<void> {
  for (let waits = 0; !condition(); waits += 1) {
    if (waits > 4_000) throw new Error('waited 20 s for nothing');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
