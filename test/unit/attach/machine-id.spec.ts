import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { readMachineId } from '../../../src/attach/machine-id.ts';
import { StartError } from '../../../src/platform/start-error.ts';

describe('readMachineId', () => {
  let folder: string;
  let file: string;

  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'obraz-machine-'));
    file = path.join(folder, 'machine-id');
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('makes a name of the host and random digits once, and keeps it', async () => {
    const id = await readMachineId(file, 'Rack_7.example.org');
    expect(id).to.match(/^rack-7-[0-9a-f]{8}$/);
    expect(await readMachineId(file, 'other')).to.equal(id);
    expect(await readFile(file, 'utf8')).to.equal(`${id}\n`);
  });

  it('makes one of any host name', async () => {
    for (const host of ['', '---', '.', 'я', 'x'.repeat(300)]) {
      await rm(file, { force: true });
      expect(await readMachineId(file, host)).to.match(/^[a-z0-9-]+-[0-9a-f]{8}$/);
    }
  });

  it('refuses a file that holds no name rather than take another one', async () => {
    await writeFile(file, 'not a name\n');
    expect(await readMachineId(file).catch((error: unknown) => error)).to.be.instanceOf(StartError);
  });
});
