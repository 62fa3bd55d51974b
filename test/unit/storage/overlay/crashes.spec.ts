// What is there after a writing process was killed, and when the disk of its log is full. The writer is a process of its own.
import { spawnSync } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { memoryBlobStore } from '../../../../src/storage/drivers/memory.ts';
import { openLayerView } from '../../../../src/storage/layer-view.ts';
import { openStorageOn } from '../../../../src/storage/open.ts';
import { createGeneration, recoverGeneration } from '../../../../src/storage/overlay/generation.ts';
import { openWritableOverlay } from '../../../../src/storage/overlay/writable-overlay.ts';
import { isLongRun, randomFrom, testSeed } from '../../../support/sample.ts';
import { Program } from '../../../support/programs.ts';
import { type Folder, temporaryFolder } from '../support/places.ts';

const sizeBytes = 16 * 1024 * 1024;
const sectors = sizeBytes / 4096;

/**
 * Writes sector after sector, each filled with its own count, in flights of 16 at random places; says what was answered, and what a
 * flush answered. With a limit it goes on past the full disk until it is told of 40 refusals, then has more room made for it.
 */
const writer = `
  import { execFileSync } from 'node:child_process';
  import { memoryBlobStore } from '$src/storage/drivers/memory.ts';
  import { openLayerView } from '$src/storage/layer-view.ts';
  import { openStorageOn } from '$src/storage/open.ts';
  import { OverlayFullError } from '$src/storage/overlay/errors.ts';
  import { createGeneration } from '$src/storage/overlay/generation.ts';
  import { openWritableOverlay } from '$src/storage/overlay/writable-overlay.ts';
  const [file, seedText, mode, place] = process.argv.slice(1).filter((arg) => arg !== '--');
  const sizeBytes = ${sizeBytes};
  let seed = Number(seedText);
  const random = (below) => ((seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 8) % below;
  process.on('SIGXFSZ', () => {});
  const limit = (bytes) => mode === 'rlimit'
    ? execFileSync('prlimit', ['--pid', String(process.pid), '--fsize=' + bytes + ':unlimited'])
    : execFileSync('mount', ['-o', 'remount,size=' + bytes, place]);
  const storage = await openStorageOn(memoryBlobStore(), { cachedBlockBytes: 1024 * 1024 });
  const open = await createGeneration(file, { diskId: 'disk1', generation: 1 }, sizeBytes);
  const overlay = openWritableOverlay({ storage, base: await openLayerView(storage, undefined, sizeBytes), sealed: [], open, sizeBytes });
  const acknowledged = new Map();
  if (mode !== 'kill') limit(1_500_000);
  let refused = 0;
  let raised = false;
  for (let count = 1; mode === 'kill' || count < 1500; ) {
    const flight = [];
    const used = new Set();
    for (let index = 0; index < 16; index += 1, count += 1) {
      const sector = random(${sectors});
      if (used.has(sector)) continue;
      used.add(sector);
      const own = count;
      const data = Buffer.alloc(4096);
      for (let at = 0; at < 4096; at += 4) data.writeUInt32LE(own, at);
      flight.push(overlay.write(data, sector * 4096, false).then(
        () => acknowledged.set(sector, own),
        (error) => {
          if (!(error instanceof OverlayFullError)) throw error;
          refused += 1;
        }));
    }
    await Promise.all(flight);
    const before = [...acknowledged];
    await overlay.flush();
    if (mode === 'kill') {
      process.stdout.write('durable ' + JSON.stringify(before) + '\\n');
      acknowledged.clear();
    }
    if (refused > 40 && !raised) {
      raised = true;
      limit(64_000_000);
    }
  }
  for (const [sector, count] of acknowledged) {
    const target = Buffer.alloc(4096);
    await overlay.read(target, sector * 4096);
    if (target.readUInt32LE(0) !== count || target.readUInt32LE(4092) !== count) throw new Error('sector ' + sector + ' is wrong');
  }
  await overlay.flush();
  process.stdout.write('refused ' + refused + '\\n');
  process.stdout.write('durable ' + JSON.stringify([...acknowledged]) + '\\n');
  process.kill(process.pid, 'SIGKILL');
`;

/** Whole lines of durable writes, in order: sector → count. */
function durableWrites(output: string): Map<number, number> {
  const durable = new Map<number, number>();
  for (const line of output.split('\n').slice(0, -1)) {
    if (!line.startsWith('durable ')) continue;
    for (const [sector, count] of JSON.parse(line.slice(8)) as [number, number][]) durable.set(sector, count);
  }
  return durable;
}

/** Every sector holds one count, whole, and no older one than what was durable. */
async function expectDurable(folder: Folder, file: string, durable: ReadonlyMap<number, number>): Promise<void> {
  const recovered = await recoverGeneration(file, { diskId: 'disk1', generation: 1 });
  const storage = await openStorageOn(memoryBlobStore());
  const open = await createGeneration(`${folder.path}/next`, { diskId: 'disk1', generation: 2 }, sizeBytes);
  const base = await openLayerView(storage, undefined, sizeBytes);
  await using overlay = openWritableOverlay({ storage, base, sealed: [recovered], open, sizeBytes });
  const bytes = Buffer.alloc(sizeBytes);
  await overlay.read(bytes, 0);
  for (let sector = 0; sector < sectors; sector += 1) {
    const count = bytes.readUInt32LE(sector * 4096);
    for (let at = 0; at < 4096; at += 4)
      if (bytes.readUInt32LE(sector * 4096 + at) !== count) throw new Error(`sector ${sector} is torn`);
    if (count < (durable.get(sector) ?? 0)) throw new Error(`sector ${sector} has write ${count}, not ${durable.get(sector)}`);
  }
}

describe('the log of a process that dies', () => {
  let folder: Folder;

  beforeEach(async () => {
    folder = await temporaryFolder();
  });
  afterEach(() => folder[Symbol.asyncDispose]());

  it(`holds what was flushed, whenever it is killed (OBRAZ_TEST_SEED=${testSeed})`, async () => {
    const random = randomFrom(testSeed);
    for (let round = 0; round < (isLongRun ? 40 : 3); round += 1) {
      const file = `${folder.path}/log-${round}`;
      await using program = new Program(writer, [file, String(round + 1), 'kill']);
      await program.says('durable [[');
      await sleep(random() * 300);
      await program.kill();
      const durable = durableWrites(program.output);
      expect(durable.size).to.be.greaterThan(0);
      const own = { path: `${folder.path}/${round}`, [Symbol.asyncDispose]: async () => {} };
      await mkdir(own.path);
      await expectDurable(own, file, durable);
    }
  }).timeout(300_000);

  async function fillsUp(file: string, mode: string, place: string): Promise<void> {
    await using program = new Program(writer, [file, '1', mode, place]);
    await program.exited;
    expect(program.output).to.match(/refused \d\d+\n/);
    const durable = durableWrites(program.output);
    expect(durable.size).to.be.greaterThan(300);
    await expectDurable(folder, file, durable);
  }

  it('holds what was acknowledged when it could grow no further, and what came after there was room again', async function () {
    if (spawnSync('prlimit', ['--version']).status !== 0) {
      console.log('      SKIPPED: prlimit is missing');
      this.skip();
    }
    await fillsUp(`${folder.path}/log`, 'rlimit', '');
  }).timeout(120_000);

  it('holds what was acknowledged when its disk was full, and what came after there was room again', async function () {
    const place = `${folder.path}/disk`;
    await mkdir(place);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1500k', 'tmpfs', place]);
    if (mounted.status !== 0) {
      console.log('      SKIPPED: no file system can be mounted here');
      this.skip();
    }
    try {
      await fillsUp(`${place}/log`, 'tmpfs', place);
    } finally {
      spawnSync('umount', [place]);
    }
  }).timeout(120_000);
});
