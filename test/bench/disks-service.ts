// A running service for the benches of disks, and what they ask it for beside the public API.
import { randomFillSync } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials } from '@grpc/grpc-js';
import { AttachMode, AttachServiceClient } from '../../generated/obraz/v1/attach.ts';
import { ObrazClient, unary } from '../support/client.ts';
import { highRates, Obraz } from '../support/obraz.ts';
import { removeDataFolder } from '../support/postgres.ts';
import { run } from './figures.ts';
import { must } from './nbd-compare.ts';
import { type NbdExport, exportOf } from './nbd-peers.ts';

const MiB = 1024 * 1024;

/** The NBD URI of a ticket, over the local socket: what `obraz nbd attach` prints. A disk is opened for writing. */
export async function ticketUri(
  client: ObrazClient,
  resourceId: string,
  mode: AttachMode = AttachMode.ATTACH_MODE_UNSPECIFIED,
): Promise<string> {
  const attach = new AttachServiceClient(client.address, credentials.createInsecure());
  try {
    const ticket = await unary(attach, attach.createTicket, { resourceId, mode, lifetime: undefined }, client.metadata);
    return ticket.uris[0]!;
  } finally {
    attach.close();
  }
}

interface Service {
  obraz: Obraz;
  client: ObrazClient;
}

/** The service on a data folder of its own, with a way to start it anew. */
export class RunningService implements AsyncDisposable {
  readonly #dataDirectory: string;
  #current: Service | undefined;

  constructor(dataDirectory: string) {
    this.#dataDirectory = dataDirectory;
  }

  async start(): Promise<ObrazClient> {
    await this.stop();
    const obraz = await Obraz.start({
      dataDirectory: this.#dataDirectory,
      environment: { OBRAZ_LOG_LEVEL: 'warn', ...highRates },
    });
    this.#current = { obraz, client: await ObrazClient.of(obraz) };
    return this.client;
  }

  get client(): ObrazClient {
    return this.#current!.client;
  }

  async open(id: string, mode?: AttachMode): Promise<NbdExport> {
    return exportOf(await ticketUri(this.client, id, mode), this.#current!.obraz.child.pid!);
  }

  async stop(): Promise<void> {
    this.#current?.client[Symbol.dispose]();
    await this.#current?.obraz[Symbol.asyncDispose]();
    this.#current = undefined;
  }

  /** Until what was written to a disk lies in its layer: then it can be opened for reading. */
  async settled(diskId: string): Promise<void> {
    for (;;) {
      const { uri } = await this.open(diskId, AttachMode.ATTACH_MODE_READ_ONLY);
      if (await isOpenable(uri)) return;
      await sleep(200);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

const isOpenable = async (uri: string): Promise<boolean> =>
  (await run('sh', ['-c', 'qemu-img info "$0" >/dev/null 2>&1 && echo yes || echo no', uri])).stdout.trim() === 'yes';

export async function withService(work: (service: RunningService, directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'obraz-bench-'));
  const dataDirectory = path.join(directory, 'data');
  try {
    await using service = new RunningService(dataDirectory);
    await service.start();
    await work(service, directory);
  } finally {
    await removeDataFolder(dataDirectory);
    await rm(directory, { recursive: true, force: true });
  }
}

export async function randomFile(file: string, bytes: number): Promise<void> {
  const handle = await open(file, 'w');
  const part = Buffer.alloc(4 * MiB);
  for (let at = 0; at < bytes; at += part.length) await handle.write(randomFillSync(part), 0, part.length, at);
  await handle.datasync();
  await handle.close();
}

/** A disk that was written with the file over NBD, and an image of it. */
export async function store(service: RunningService, file: string, bytes: number): Promise<string> {
  const { client } = service;
  const disk = await client.disk({ size: BigInt(bytes) });
  const { uri } = await service.open(disk.id);
  await must('nbdcopy', ['--flush', file, uri]);
  return (await client.import({ source: { $case: 'diskId', value: disk.id } })).id;
}
