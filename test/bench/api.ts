// Calls a second of Get by id and of Create-to-done, as ratios to a bare grpc-js echo on the same machine in the same run.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { GetImageRequest } from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import { ObrazClient } from '../support/client.ts';
import { highRates, Obraz } from '../support/obraz.ts';
import { hasTool, median, table } from './figures.ts';
import { callsPerSecond } from './load.ts';
import { startWebServer } from '../support/web-server.ts';

const method = 'yandex.cloud.compute.v1.ImageService/Get';
const rounds = 3;

export async function benchApi(): Promise<void> {
  if (!hasTool('h2load')) {
    console.warn('SKIPPED: h2load is not installed (Debian: nghttp2-client)');
    return;
  }
  const web = await startWebServer({ content: Buffer.alloc(4 * 1024 * 1024) });
  const obraz = await Obraz.start({ environment: { OBRAZ_LOG_LEVEL: 'warn', ...highRates } });
  const echo = await startEcho();
  try {
    using client = await ObrazClient.of(obraz);
    const image = await client.import({ name: 'bench', source: { $case: 'uri', value: web.url() } });
    const headers = { authorization: String(client.metadata.get('authorization')[0]) };
    const message = GetImageRequest.encode({ imageId: image.id }).finish();
    const ratios: number[] = [];
    const rows = [['round', 'bare echo, calls/s', 'Get by id, calls/s', 'ratio']];
    for (let round = 1; round <= rounds; round += 1) {
      const bare = await callsPerSecond({ address: echo.address, method, message });
      const get = await callsPerSecond({ address: client.address, method, message, headers });
      ratios.push(get / bare);
      rows.push([String(round), bare.toFixed(0), get.toFixed(0), (get / bare).toFixed(2)]);
    }
    table(rows);
    console.log(`Get by id, authenticated, through entities: median ratio ${median(ratios).toFixed(2)} (goal 0.45, aim 0.60)`);
    await createToDone(client, image.id);
  } finally {
    echo.stop();
    await obraz[Symbol.asyncDispose]();
    await web[Symbol.asyncDispose]();
  }
}

/** Creates of an image from an image, one after another: each is an operation, an image and their commit. */
async function createToDone(client: ObrazClient, sourceId: string): Promise<void> {
  const count = 200;
  const timeOf = async (work: () => Promise<unknown>): Promise<number> => {
    const startedAt = performance.now();
    await work();
    return performance.now() - startedAt;
  };
  const creates: number[] = [];
  const gets: number[] = [];
  for (let index = 0; index < count; index += 1) {
    creates.push(
      await timeOf(async () => client.image(await client.createImage({ source: { $case: 'imageId', value: sourceId } }))),
    );
    gets.push(await timeOf(() => client.getImage(sourceId)));
  }
  console.log(
    `Create to done from an image: median ${median(creates).toFixed(1)} ms, ${(median(creates) / median(gets)).toFixed(1)} times a Get (${median(gets).toFixed(1)} ms)`,
  );
}

async function startEcho(): Promise<{ address: string; stop: () => void }> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'echo-server.ts')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const address = await new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.stdout.on('data', (part: Buffer) => {
      const match = /listening (\S+)/.exec(part.toString());
      if (match !== null) resolve(match[1]!);
    });
  });
  return { address, stop: () => void child.kill() };
}
