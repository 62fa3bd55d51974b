import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { replaceFile } from '../../../src/platform/replace-file.ts';

describe('replaceFile', () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'obraz-replace-'));
  });

  afterEach(() => rm(folder, { recursive: true }));

  it('leaves the new text, its mode and nothing else, whatever was there', async () => {
    const file = path.join(folder, 'file');
    await writeFile(file, 'old', { mode: 0o644 });
    await writeFile(`${file}.tmp`, 'left by a crash', { mode: 0o644 });
    await replaceFile(file, 'new');
    expect(await readFile(file, 'utf8')).to.equal('new');
    expect((await stat(file)).mode & 0o777).to.equal(0o600);
    await replaceFile(file, 'public', 0o644);
    expect((await stat(file)).mode & 0o777).to.equal(0o644);
    expect(await readdir(folder)).to.deep.equal(['file']);
  });

  it('shows readers the old text or the new one, never a part', async () => {
    const file = path.join(folder, 'file');
    const texts = ['a'.repeat(50_000), 'b'.repeat(70_000)];
    await replaceFile(file, texts[0]!);
    const done = new AbortController();
    const writes = (async () => {
      for (let index = 0; index < 30; index++) await replaceFile(file, texts[index % 2]!);
      done.abort();
    })();
    while (!done.signal.aborted) expect(texts.includes(await readFile(file, 'utf8'))).to.equal(true);
    await writes;
  });
});
