// Optimized images of disks that are being written: the capture puts the disk's base in, and another job verifies the layer.
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { expect } from 'chai';
import { commitJobKind } from '../../../src/attach/commit.job.ts';
import { poolJobKind } from '../../../src/images/pool-payload.ts';
import { poolJob } from '../../../src/images/pool.job.ts';
import { JobBell } from '../../../src/operations/job-bell.ts';
import { Operations } from '../../../src/operations/operations.ts';
import { packedEmpty } from '../../../src/operations/pack.ts';
import { Runner } from '../../../src/operations/runner.ts';
import { codeNumbers, decodeStatus } from '../../../src/operations/status.mapper.ts';
import { parsePageAddress } from '../../../src/storage/address.ts';
import { openLayerView } from '../../../src/storage/layer-view.ts';
import { AttachKit } from '../../support/attach-kit.ts';
import { eventually } from '../../support/attached-disk.ts';
import { MemoryLog, shortBounds } from '../../support/operations-kit.ts';
import { everybodyMay } from '../../support/call.ts';

const MiB = 1024 * 1024;

describe('An optimized image of a disk that is being written', function () {
  this.timeout(120_000);
  let kit: AttachKit;
  let { fork, sql, machine, newDisk, noise, signal }: AttachKit = {} as AttachKit;

  before(async () => {
    kit = await AttachKit.start();
    ({ fork, sql, machine, newDisk, noise, signal } = kit);
  });
  after(() => kit?.[Symbol.asyncDispose]());

  const begin = async (machineId: string, diskId: string, imageId: string): Promise<string> => {
    await sql(
      `insert into images (id, folder_id, created_at, name, description, labels, family, size, storage_size, min_disk_size, product_ids,
         status, os, hardware_generation, pooled)
       values ($1, 'f', now(), $1, '', '{}', '', 0, 0, 0, '{}', 'CREATING', '{"type":"LINUX"}', '{}', true)`,
      [imageId],
    );
    const { id } = await new Operations({ bell: new JobBell(fork), fork }).beginOwn(kit.subjectId, async () => ({
      folderId: 'f',
      resourceId: imageId,
      resourceKind: 'compute.image',
      description: 'Create image',
      metadata: packedEmpty,
      job: { kind: commitJobKind(machineId), payload: { diskId, target: { kind: 'image', id: imageId } } },
    }));
    await eventually('it is to be verified', async () => {
      const [job] = await sql<{ kind: string }>('select kind from jobs where operation_id = $1', [id]);
      return job?.kind === poolJobKind;
    });
    return id;
  };

  const baseOf = async (diskId: string): Promise<string | null> =>
    (await sql<{ base: string | null }>('select layer_root as base from disks where id = $1', [diskId]))[0]!.base;

  const verifying = async (): Promise<AsyncDisposable> => {
    const parts = { fork, bell: new JobBell(fork), access: everybodyMay, handlers: [poolJob(kit.storage)], concurrency: 1 };
    const runner = new Runner({ ...parts, log: new MemoryLog(), bounds: shortBounds });
    runner.start();
    return runner;
  };

  const ended = async (id: string) => {
    const look = () => sql<{ done: boolean; error: Buffer | null }>('select done, error from operations where id = $1', [id]);
    await eventually('it has ended', async () => (await look())[0]!.done);
    return (await look())[0]!.error;
  };

  it('holds up no commit of the disk while it is verified, and is what the disk held when it was captured', async () => {
    await using here = await machine('verified');
    const diskId = await newDisk();
    await using device = await here.open(diskId);
    const before = noise(4096);
    await device.write(before, 0, true, signal);
    const id = await begin('verified', diskId, 'fd8verified');
    const captured = await baseOf(diskId);
    expect(captured).to.not.equal(null);
    expect(await sql('select pinned_roots as roots from jobs where operation_id = $1', [id])).to.deep.equal([
      { roots: [captured] },
    ]);
    await device.write(noise(4096), 0, true, signal);
    await here.attachments.writerOf(diskId)!.seal();
    await eventually('what was written since is committed', async () => (await baseOf(diskId)) !== captured);
    // As after a crash: nobody has begun to verify it.
    await using _verifier = await verifying();
    expect(await ended(id)).to.equal(null);
    const [image] = await sql<{ root: string }>('select status, layer_root as root, storage_size::int as bytes from images');
    expect(image).to.deep.equal({ status: 'READY', root: captured, bytes: 4 * MiB });
    const read = Buffer.alloc(4096);
    await (await openLayerView(kit.storage, parsePageAddress(image!.root), 64 * MiB)).read(read, 0, signal);
    expect(read.equals(before)).to.equal(true);
    await sql('truncate images');
  });

  it('is not made when something of it is missing; the disk is written on', async () => {
    await using here = await machine('missing');
    const diskId = await newDisk();
    await using device = await here.open(diskId);
    await device.write(noise(4096), 0, true, signal);
    const id = await begin('missing', diskId, 'fd8missing');
    for await (const { kind, address } of kit.storage.layers.reachable(parsePageAddress((await baseOf(diskId))!))) {
      const name = path.join(kind, address.slice(0, 2), address);
      if (kind === 'chunks') await rm(path.join(kit.blobs, name));
    }
    await using _verifier = await verifying();
    expect(decodeStatus((await ended(id))!)).to.include({ code: codeNumbers.DATA_LOSS });
    expect(await sql('select id from images')).to.deep.equal([]);
    await device.write(noise(4096), 8 * MiB, true, signal);
  });
});
