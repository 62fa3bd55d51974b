// Commands that work whether the service runs or not: alone on the data folder when nobody has it, else through the service that has it,
// as its administrator. So they are never in each other's way.
import { access, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { CallOptions, ChannelCredentials, Client, ClientUnaryCall, Metadata, ServiceError } from '@grpc/grpc-js';
import type { Config } from '../config.ts';
import { DataFolderInUse, openDataFolder } from '../platform/data-folder.ts';
import { StartError } from '../platform/start-error.ts';
import type { WithoutServing } from '../without-serving.ts';

/** A service that is just starting answers soon. */
const connectMs = 15_000;

export interface RunningService {
  /** Opens a client of it, for as long as `body` takes. @throws StartError when it does not answer. */
  with<Stub extends Client, Answer>(Stub: StubOf<Stub>, body: (client: Stub) => Promise<Answer>): Promise<Answer>;
  /** Calls a unary method: `service.call(client, client.get, request)`. @throws StartError with the service's words. */
  call<Request, Response>(client: Client, method: UnaryMethod<Request, Response>, request: Request): Promise<Response>;
  /** Of the administrator's calls. */
  metadata: Metadata;
  /** Of the first start. */
  cloudId: string;
}

type StubOf<Stub extends Client> = new (address: string, credentials: ChannelCredentials) => Stub;

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  answer: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

export interface Ways<Answer> {
  alone: (parts: WithoutServing) => Promise<Answer>;
  through: (service: RunningService) => Promise<Answer>;
}

/** @throws StartError, and what the way throws. */
export async function eitherWay<Answer>(config: Config, signal: AbortSignal, ways: Ways<Answer>): Promise<Answer> {
  const { openWithoutServing } = await import('../without-serving.ts');
  let parts: WithoutServing;
  try {
    parts = await openWithoutServing(config, signal);
  } catch (error) {
    if (!(error instanceof DataFolderInUse)) throw error;
    return ways.through(await findService(config));
  }
  await using _parts = parts;
  return await ways.alone(parts);
}

/**
 * The service that has the data folder, at once; undefined when none runs on it.
 * @throws StartError when what runs there serves no API.
 */
export async function findServiceIfAny(config: Config): Promise<RunningService | undefined> {
  // A folder that is not there yet is not to be made.
  const hasStarted = await access(path.resolve(config.dataDirectory, 'bootstrap.json')).then(
    () => true,
    () => false,
  );
  if (!hasStarted) return undefined;
  try {
    await (await openDataFolder(config.dataDirectory))[Symbol.asyncDispose]();
    return undefined;
  } catch (error) {
    if (!(error instanceof DataFolderInUse)) throw error;
    return await findService(config);
  }
}

/** The service that has the data folder. @throws StartError when there is none, or it serves no API. */
export async function findService(config: Config): Promise<RunningService> {
  const { Metadata: GrpcMetadata, credentials } = await import('@grpc/grpc-js');
  const bootstrap = JSON.parse(await readDataFile(config, 'bootstrap.json')) as Bootstrap;
  const address = bootstrap.addresses.grpc;
  if (address === undefined) {
    throw new StartError(
      `The process on ${path.resolve(config.dataDirectory)} serves no API (OBRAZ_ROLES has no api). Run the command with the data folder of one that does.`,
    );
  }
  const metadata = new GrpcMetadata();
  metadata.set('authorization', `Bearer ${(await readDataFile(config, 'admin.token')).trim()}`);
  return {
    metadata,
    cloudId: bootstrap.cloud_id,
    async with(Stub, body) {
      const client = new Stub(address, credentials.createInsecure());
      try {
        await whenReady(client, address);
        return await body(client);
      } finally {
        client.close();
      }
    },
    call: (client, method, request) =>
      new Promise((resolve, reject) => {
        method.call(client, request, metadata, {}, (error, response) =>
          error === null ? resolve(response) : reject(asStartError(error)),
        );
      }),
  };
}

interface Bootstrap {
  cloud_id: string;
  addresses: { grpc?: string };
}

const whenReady = (client: Client, address: string): Promise<void> =>
  new Promise((resolve, reject) => {
    client.waitForReady(Date.now() + connectMs, (error) => {
      if (error === undefined) resolve();
      else reject(new StartError(`The service at ${address} does not answer: ${error.message}`, { cause: error }));
    });
  });

/** Written by the service before it is ready. */
async function readDataFile({ dataDirectory }: Config, name: string): Promise<string> {
  const file = path.resolve(dataDirectory, name);
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new StartError(`Cannot read ${file}: ${(error as Error).message}. Is the service still starting? Try again.`, {
      cause: error,
    });
  }
}

/** What the service answers in words is for the operator to read. */
const asStartError = (error: ServiceError): StartError => new StartError(error.details || error.message, { cause: error });

/** Reads a stream of progress to its end, and answers nothing; `signal` cancels it. @throws StartError. */
export async function readStream<Message>(
  stream: AsyncIterable<Message> & { cancel(): void },
  signal: AbortSignal,
  onMessage: (message: Message) => void,
): Promise<void> {
  const cancel = () => stream.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  // It may have been aborted before anybody listened.
  if (signal.aborted) cancel();
  try {
    for await (const message of stream) onMessage(message);
  } catch (error) {
    signal.throwIfAborted();
    throw asStartError(error as ServiceError);
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}
