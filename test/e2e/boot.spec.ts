// A machine boots from a disk made of an imported image: boot loader, kernel and root file system come out of Obraz, over NBD, to an emulator
// that knows nothing of it. What the machine writes lives on in its disk, in a snapshot, and in a machine made of that.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { bootableImageBytes, requireBootableImage } from '../support/bootable-image.ts';
import { ObrazClient } from '../support/client.ts';
import { isLongRun } from '../support/sample.ts';
import { Machine, requireEmulator } from '../support/machine.ts';
import { Obraz } from '../support/obraz.ts';
import { startWebServer } from '../support/web-server.ts';

const run = promisify(execFile);
const MiB = 1024 * 1024;
/** Larger than the image: what lies behind it are zeros. */
const diskBytes = bootableImageBytes + 32 * MiB;

describe('machines that boot from disks', function () {
  this.timeout(20 * 60_000);
  let imageFile: string;
  let obraz: Obraz;
  let client: ObrazClient;

  before(async function () {
    if (!isLongRun) this.skip();
    requireEmulator(this);
    imageFile = await requireBootableImage(this);
    obraz = await Obraz.start();
    client = await ObrazClient.of(obraz);
  });

  after(async () => {
    client?.[Symbol.dispose]();
    await obraz?.[Symbol.asyncDispose]();
  });

  /** As a user gets it. */
  const attach = async (id: string): Promise<string> => {
    const environment = { ...process.env, OBRAZ_DATA_DIR: obraz.dataDirectory };
    const { stdout } = await run(process.execPath, ['src/main.ts', 'nbd', 'attach', id], { env: environment, timeout: 120_000 });
    return stdout.trim();
  };

  it('writes to its disk, which becomes a snapshot, an image, and a second machine that finds what was written', async () => {
    await using web = await startWebServer({ content: { path: imageFile } });
    const image = await client.import({ name: 'bootable', source: { $case: 'uri', value: web.url() } });
    const disk = await client.disk({ name: 'first', size: BigInt(diskBytes), source: { $case: 'imageId', value: image.id } });

    await using first = new Machine(await attach(disk.id));
    await first.says(/machine: booted/);
    const firstId = (await first.says(/machine: wrote (\S+)/))[1]!;
    await first.off();
    expect(first.output)
      .to.match(/machine: trimmed/)
      .and.not.match(/machine: found/);

    const snapshot = await client.snapshot({ diskId: disk.id });
    const copy = await client.import({ name: 'used', source: { $case: 'snapshotId', value: snapshot.id } });
    const clone = await client.disk({ name: 'second', size: BigInt(diskBytes), source: { $case: 'imageId', value: copy.id } });

    await using second = new Machine(await attach(clone.id));
    const secondId = (await second.says(/machine: wrote (\S+)/))[1]!;
    // It has synced, and its power fails.
    await second.kill();
    expect(second.output).to.contain(`machine: found ${firstId}`).and.contain('machine: sums are good');

    await using again = new Machine(await attach(clone.id));
    await again.says(/machine: wrote \S+/);
    await again.off();
    expect(again.output).to.contain(`machine: found ${firstId}`).and.contain(`machine: found ${secondId}`);
    expect(again.output).to.contain('machine: sums are good');

    // The first image is as it was, and so is the first disk.
    await using fresh = new Machine(await attach((await client.disk({ source: { $case: 'imageId', value: image.id } })).id));
    await fresh.says(/machine: wrote \S+/);
    expect(fresh.output).not.to.match(/machine: found/);
  });
});
