import { readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect } from 'chai';
import { memoryBlobStore } from '../../../../src/storage/drivers/memory.ts';
import { openLayerView } from '../../../../src/storage/layer-view.ts';
import { type Storage, openStorageOn } from '../../../../src/storage/open.ts';
import { LogDamagedError, OverlayFailedError } from '../../../../src/storage/overlay/errors.ts';
import {
  type Generation,
  createGeneration,
  openSealedGeneration,
  recoverGeneration,
} from '../../../../src/storage/overlay/generation.ts';
import { OverlayReader } from '../../../../src/storage/overlay/overlay-reader.ts';
import { openWritableOverlay } from '../../../../src/storage/overlay/writable-overlay.ts';
import { WrittenCache } from '../../../../src/storage/overlay/written-cache.ts';
import { errorOf } from '../../../contract/blob-store.contract.ts';
import { FailingSyncs } from '../../../support/failing-syncs.ts';
import { isLongRun } from '../../../support/sample.ts';
import { bytesOf, diskId, expectEqual } from '../support/overlaid-disk.ts';
import { type Folder, temporaryFolder } from '../support/places.ts';

const sizeBytes = 4 * 1024 * 1024;
const name = { diskId, generation: 1 };

describe('a generation', () => {
  let folder: Folder;
  let storage: Storage;
  let file: string;
  let count = 0;

  before(async () => {
    folder = await temporaryFolder();
    storage = await openStorageOn(memoryBlobStore(), { cachedBlockBytes: 0 });
  });
  after(() => folder[Symbol.asyncDispose]());

  beforeEach(() => {
    count += 1;
    file = path.join(folder.path, `log-${count}`);
  });

  /** Where each record ends, and what the disk holds then. */
  interface Written {
    ends: number[];
    states: Buffer[];
    bytes: Buffer;
  }

  async function overlay(open: Awaited<ReturnType<typeof createGeneration>>, sealed: Generation[] = []) {
    const base = await openLayerView(storage, undefined, sizeBytes);
    return openWritableOverlay({ storage, base, sealed, open, sizeBytes });
  }

  /** A log of one record for each change; synced after the records whose numbers are in `syncs`. */
  async function writeLog(changes: number, syncs: readonly number[] = []): Promise<Written> {
    const open = await createGeneration(file, name, sizeBytes);
    await using disk = await overlay(open);
    const model = Buffer.alloc(sizeBytes);
    const ends = [open.lengthBytes];
    const states = [Buffer.alloc(64 * 4096)];
    for (let index = 0; index < changes; index += 1) {
      const offset = ((index * 5) % 60) * 4096;
      const length = ((index % 4) + 1) * 4096;
      if (index % 5 === 4) {
        model.fill(0, offset, offset + length);
        await disk.trim(offset, length, false);
      } else {
        const data = bytesOf(index, length);
        data.copy(model, offset);
        await disk.write(data, offset, false);
      }
      if (syncs.includes(index)) await disk.flush();
      ends.push(open.lengthBytes);
      states.push(Buffer.from(model.subarray(0, 64 * 4096)));
    }
    return { ends, states, bytes: await readFile(file) };
  }

  /** What the disk holds with this generation alone: all that writeLog touches. */
  async function contents(generation: Generation, length = 64 * 4096): Promise<Buffer> {
    await using _closed = generation;
    const stack = { base: await openLayerView(storage, undefined, sizeBytes), generations: [generation] };
    const reader = new OverlayReader(sizeBytes, stack, new WrittenCache(storage.cache.blocks));
    const target = Buffer.alloc(length);
    await reader.read(target, 0);
    return target;
  }

  it('is the same after it was sealed and opened', async () => {
    const { ends, states } = await writeLog(20);
    const sealed = await openSealedGeneration(file, name, ends.at(-1)!);
    expect(sealed.lengthBytes).to.equal(ends.at(-1));
    expectEqual(await contents(sealed), states.at(-1)!, 0);
  });

  it('does not show what lies behind the length that it was sealed at', async () => {
    const { ends, states } = await writeLog(20);
    expectEqual(await contents(await openSealedGeneration(file, name, ends[12]!)), states[12]!, 0);
    expectEqual(await contents(await openSealedGeneration(file, name, ends[0]!)), states[0]!, 0);
  });

  it('ends with its last whole record, wherever it was cut off', async () => {
    const { ends, states, bytes } = await writeLog(6);
    const cuts = isLongRun ? 4_000 : 100;
    const near = ends.flatMap((end) => [end - 1, end, end + 1, end + 63, end + 64, end + 65, end + 68]);
    const even = Array.from({ length: cuts }, (_, index) => 4096 + Math.floor((index * (bytes.length - 4096)) / cuts));
    for (const cut of new Set([...near, ...even])) {
      if (cut < 4096 || cut > bytes.length) continue;
      await truncate(file, cut);
      const whole = ends.findLastIndex((end) => end <= cut);
      const recovered = await recoverGeneration(file, name);
      expect(recovered.lengthBytes, `cut at ${cut}`).to.equal(ends[whole]);
      expectEqual(await contents(recovered), states[whole]!, 0);
      await writeFile(file, bytes);
    }
  }).timeout(600_000);

  it('ends with its last whole record, also where the disk has blocks of zeros or of old records in its place', async () => {
    const { ends, states, bytes } = await writeLog(12);
    for (const at of [3, 7, 11]) {
      const torn = Buffer.from(bytes);
      torn.fill(0, ends[at]);
      await writeFile(file, torn);
      let recovered = await recoverGeneration(file, name);
      expect(recovered.lengthBytes).to.equal(ends[at]);
      expectEqual(await contents(recovered), states[at]!, 0);
      // An older record, whole, where the next one should be.
      const stale = Buffer.from(bytes);
      stale.set(bytes.subarray(ends[1], ends[2]), ends[at]);
      await writeFile(file, stale);
      recovered = await recoverGeneration(file, name);
      expect(recovered.lengthBytes).to.equal(ends[at]);
      expectEqual(await contents(recovered), states[at]!, 0);
    }
  });

  it('never answers wrong bytes, whichever bit of it is flipped', async () => {
    const { ends, states, bytes } = await writeLog(8);
    const step = isLongRun ? 199 : 1999;
    for (let bit = 4096 * 8; bit < bytes.length * 8; bit += bit < (ends[0]! + 80) * 8 ? 5 : step) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      await writeFile(file, flipped);
      const opened = await openSealedGeneration(file, name, ends.at(-1)!).catch((error: unknown) => error);
      if (!isGeneration(opened)) {
        expect(opened, `bit ${bit}`).to.be.instanceOf(LogDamagedError);
        continue;
      }
      const answer = await contents(opened).catch((error: unknown) => error);
      if (Buffer.isBuffer(answer)) expectEqual(answer, states.at(-1)!, 0);
      else expect(answer, `bit ${bit}`).to.be.instanceOf(LogDamagedError).with.property('code', 'DATA_LOSS');
    }
  }).timeout(600_000);

  it('is cut at a damaged record that nobody was told is durable', async () => {
    const { ends, states, bytes } = await writeLog(10);
    const flipped = Buffer.from(bytes);
    flipped[ends[6]! - 100]! ^= 1;
    await writeFile(file, flipped);
    const recovered = await recoverGeneration(file, name);
    expect(recovered.lengthBytes).to.equal(ends[5]);
    expectEqual(await contents(recovered), states[5]!, 0);
  });

  it('does not give up what was synced for a damaged sector: only that sector is lost', async () => {
    const { ends, states, bytes } = await writeLog(10, [7]);
    const flipped = Buffer.from(bytes);
    flipped[ends[6]! - 100]! ^= 1;
    await writeFile(file, flipped);
    const recovered = await recoverGeneration(file, name);
    expect(recovered.lengthBytes).to.equal(ends.at(-1));
    const next = await createGeneration(`${file}-next`, { diskId, generation: 2 }, sizeBytes);
    await using disk = await overlay(next, [recovered]);
    let lost = 0;
    for (let offset = 0; offset < 64 * 4096; offset += 4096) {
      const target = Buffer.alloc(4096);
      const error = await errorOf(disk.read(target, offset));
      if (error === undefined) expectEqual(target, states.at(-1)!.subarray(offset, offset + 4096), offset);
      else {
        lost += 1;
        expect(error).to.be.instanceOf(LogDamagedError);
      }
    }
    expect(lost).to.equal(1);
  });

  it('is damaged, not shorter, when a header is wrong that was synced', async () => {
    const { ends, bytes } = await writeLog(10, [7]);
    const flipped = Buffer.from(bytes);
    flipped[ends[3]! + 20]! ^= 1;
    await writeFile(file, flipped);
    expect(await errorOf(recoverGeneration(file, name))).to.be.instanceOf(LogDamagedError);
  });

  it('is damaged when its file is missing, short, headless, or of another disk', async () => {
    const { ends, bytes } = await writeLog(3);
    const length = ends.at(-1)!;
    for (const wrong of [
      { diskId: 'disk2', generation: 1 },
      { diskId, generation: 2 },
    ]) {
      expect(await errorOf(openSealedGeneration(file, wrong, length))).to.be.instanceOf(LogDamagedError);
      expect(await errorOf(recoverGeneration(file, wrong))).to.be.instanceOf(LogDamagedError);
    }
    await truncate(file, length - 1);
    expect(await errorOf(openSealedGeneration(file, name, length))).to.be.instanceOf(LogDamagedError);
    await writeFile(file, bytes.subarray(0, 4000));
    expect(await errorOf(openSealedGeneration(file, name, length))).to.be.instanceOf(LogDamagedError);
    expect(await errorOf(recoverGeneration(file, name))).to.be.instanceOf(LogDamagedError);
    await rm(file);
    expect(await errorOf(openSealedGeneration(file, name, length))).to.be.instanceOf(LogDamagedError);
    expect(await errorOf(recoverGeneration(file, name))).to.be.instanceOf(LogDamagedError);
  });

  it('is sealed where its writer was fenced off: what that writer appends afterwards is not seen', async () => {
    const open = await createGeneration(file, name, sizeBytes);
    await using disk = await overlay(open);
    await disk.write(bytesOf(1, 8192), 0, true);
    const recovered = await recoverGeneration(file, name);
    await disk.write(bytesOf(2, 8192), 0, true);
    await disk.trim(0, sizeBytes, true);
    const sealed = await openSealedGeneration(file, name, recovered.lengthBytes);
    for (const generation of [recovered, sealed])
      expectEqual((await contents(generation)).subarray(0, 8192), bytesOf(1, 8192), 0);
  });

  it('is durable when it was recovered, although a sync failed before and a later one did not tell', async () => {
    using disks = new FailingSyncs();
    const { ends, states } = await writeLog(12, [5]);
    disks.fails = true;
    expect(await errorOf(recoverGeneration(file, name))).to.be.instanceOf(OverlayFailedError);
    disks.fails = false;
    expect(disks.isDurable(file, ends[6]!)).to.equal(true);
    expect(disks.isDurable(file, ends[7]!)).to.equal(false);
    const recovered = await recoverGeneration(file, name);
    expect(recovered.lengthBytes).to.equal(ends.at(-1));
    expect(disks.isDurable(file, recovered.lengthBytes)).to.equal(true);
    expectEqual(await contents(recovered), states.at(-1)!, 0);
  });

  it('makes its file for its owner only, and not over another', async () => {
    await using _open = await createGeneration(file, name, sizeBytes);
    expect((await stat(file)).mode & 0o777).to.equal(0o600);
    expect(await errorOf(createGeneration(file, name, sizeBytes))).to.have.property('code', 'EEXIST');
  });

  it('reads long logs in pieces: small records and large ones', async () => {
    const open = await createGeneration(file, name, sizeBytes);
    const disk = await overlay(open);
    const model = Buffer.alloc(sizeBytes);
    for (let round = 0; round < 3; round += 1) {
      const writes: Promise<void>[] = [];
      for (let offset = 0; offset < sizeBytes; offset += 4096) {
        const data = bytesOf(round * 5000 + offset / 4096, 4096);
        data.copy(model, offset);
        writes.push(disk.write(data, offset, false));
      }
      const large = bytesOf(round, 2 * 1024 * 1024 + 4096);
      large.copy(model, 1024 * 1024);
      writes.push(disk.write(large, 1024 * 1024, false));
      await Promise.all(writes);
    }
    const { lengthBytes } = await disk.finish();
    await disk[Symbol.asyncDispose]();
    const recovered = await recoverGeneration(file, name);
    expect(recovered.lengthBytes).to.equal(lengthBytes);
    expectEqual(await contents(recovered, sizeBytes), model, 0);
    expectEqual(await contents(await openSealedGeneration(file, name, lengthBytes), sizeBytes), model, 0);
  });
});

const isGeneration = (value: unknown): value is Generation => typeof value === 'object' && value !== null && 'index' in value;
