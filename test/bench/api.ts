// Calls a second of Get by id, of GetLatestByFamily and List among 100,000 images, and of Create-to-done, with authorization by roles, as ratios to a bare grpc-js echo on the same machine in the same run.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { Client } from 'pg';
import {
  GetImageLatestByFamilyRequest,
  GetImageRequest,
  ListImagesRequest,
} from '../../generated/yandex/cloud/compute/v1/image_service.ts';
import { Accounts } from '../support/accounts.ts';
import type { ObrazClient } from '../support/client.ts';
import { highRates, Obraz } from '../support/obraz.ts';
import { hasTool, median, table } from './figures.ts';
import { callsPerSecond } from './load.ts';
import { stopTestCluster, testDatabase } from '../support/postgres.ts';
import { startWebServer } from '../support/web-server.ts';

const images = 'yandex.cloud.compute.v1.ImageService';
const rounds = 3;
const imageCount = 100_000;
const familyCount = 10_000;

interface Measured {
  title: string;
  method: string;
  message: Uint8Array;
  token: string;
}

export async function benchApi(): Promise<void> {
  if (!hasTool('h2load')) {
    console.warn('SKIPPED: h2load is not installed (Debian: nghttp2-client)');
    return;
  }
  const database = await testDatabase();
  const web = await startWebServer({ content: Buffer.alloc(4 * 1024 * 1024) });
  const obraz = await Obraz.start({
    environment: {
      OBRAZ_LOG_LEVEL: 'warn',
      DATABASE_URL: database.url,
      ...highRates,
    },
  });
  const echo = await startEcho();
  try {
    using accounts = await Accounts.of(obraz);
    const client = accounts.admin;
    const image = await client.import({ name: 'bench', source: { $case: 'uri', value: web.url() } });
    await fill(database.url, image.id);
    const reader = await accounts.account('reader', client.folderId);
    await accounts.bind('folder', client.folderId, 'compute.viewer', reader.subject);
    const stranger = await accounts.account('stranger', client.folderId);
    await accounts.bind('image', image.id, 'compute.images.user', stranger.subject);
    const get = GetImageRequest.encode({ imageId: image.id }).finish();
    const list = ListImagesRequest.encode(ListImagesRequest.fromPartial({ folderId: client.folderId, pageSize: 100n })).finish();
    const latest = GetImageLatestByFamilyRequest.encode({ folderId: client.folderId, family: 'bench' }).finish();
    const measured: Measured[] = [
      { title: 'Get by id, role on the folder', method: `${images}/Get`, message: get, token: reader.token },
      { title: 'Get by id, role on the image', method: `${images}/Get`, message: get, token: stranger.token },
      { title: 'GetLatestByFamily', method: `${images}/GetLatestByFamily`, message: latest, token: reader.token },
      { title: 'List of 100', method: `${images}/List`, message: list, token: reader.token },
    ];
    console.log(
      `${imageCount} images in one folder, ${familyCount} of one family; calls a second, and as a ratio to the echo of the same round`,
    );
    const ratios = measured.map((): number[] => []);
    const rows = [['round', 'bare echo', ...measured.map(({ title }) => title)]];
    for (let round = 1; round <= rounds; round += 1) {
      const bare = await callsPerSecond({ address: echo.address, method: `${images}/Get`, message: get });
      const row = [String(round), bare.toFixed(0)];
      for (const [index, { method, message, token }] of measured.entries()) {
        const headers = { authorization: `Bearer ${token}` };
        const rate = await callsPerSecond({ address: client.address, method, message, headers });
        ratios[index]!.push(rate / bare);
        row.push(`${rate.toFixed(0)} (${(rate / bare).toFixed(3)})`);
      }
      rows.push(row);
    }
    table(rows);
    for (const [index, { title }] of measured.entries()) {
      console.log(`${title}: median ratio ${median(ratios[index]!).toFixed(3)}${index === 0 ? ' (goal 0.45, aim 0.60)' : ''}`);
    }
    await createToDone(client, image.id);
  } finally {
    echo.stop();
    await obraz[Symbol.asyncDispose]();
    await web[Symbol.asyncDispose]();
    await database.dispose();
    await stopTestCluster();
  }
}

/** As many images as a large installation has, beside the one that is there. */
async function fill(url: string, likeId: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query(
    `insert into images (id, folder_id, created_at, name, description, labels, family, size, storage_size, min_disk_size, product_ids,
       status, os, hardware_generation, pooled, layer_root)
     select 'fd8bench' || lpad(n::text, 12, '0'), folder_id, created_at + n * interval '1 second', 'bench-' || n, '', labels,
       case when n <= $2 then 'bench' else 'other-' || n % 1000 end, size, storage_size, min_disk_size, product_ids, status, os,
       hardware_generation, pooled, layer_root
     from images, generate_series(1, $3) n where id = $1`,
    [likeId, familyCount, imageCount],
  );
  await client.query('vacuum analyze images');
  await client.end();
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
