import { spawn } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { BatchedOutput } from '../../../src/platform/batched-output.ts';

const options = { batchBytes: 1000, batchMs: 5, maxWaitingBytes: 1e6, describeDropped: (count: number) => `dropped ${count}\n` };
const module = path.resolve(import.meta.dirname, '../../../src/platform/batched-output.ts');

/** A process that writes with such an output to its standard error, whose reader is this test. */
function writer(script: string, settings: Partial<typeof options> = {}) {
  const { describeDropped: _, ...rest } = { ...options, ...settings };
  const source = `import { BatchedOutput } from ${JSON.stringify(module)};
    const output = new BatchedOutput({ fd: 2, ...${JSON.stringify(rest)}, describeDropped: (count) => 'dropped ' + count + '\\n' });
    ${script}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], { stdio: ['pipe', 'pipe', 'pipe'] });
  let text = '';
  child.stderr.setEncoding('utf8');
  const read = (): void => void child.stderr.on('data', (part: string) => (text += part));
  const ended = new Promise((resolve) => child.once('close', resolve));
  return { child, read, ended, lines: () => text.trimEnd().split('\n') };
}

describe('Batched output', () => {
  let directory: string;
  beforeEach(() => (directory = mkdtempSync(path.join(tmpdir(), 'obraz-output-'))));
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('writes all lines in order, those of a full batch at once and the last ones after a while', async () => {
    const file = path.join(directory, 'log');
    const output = new BatchedOutput({ ...options, fd: openSync(file, 'a') });
    const lines = Array.from({ length: 5000 }, (_, index) => `line ${index} текст\n`);
    for (const [index, line] of lines.entries()) {
      output.write(line);
      if (index % 700 === 0) await sleep(1);
    }
    const written = lines.join('');
    for (let waits = 0; waits < 6000 && readFileSync(file, 'utf8').length < written.length; waits += 1) await sleep(5);
    expect(readFileSync(file, 'utf8')).to.equal(written);
  });

  it('writes what waits when the process exits, after what is being written', async () => {
    const { read, ended, lines } = writer(
      `for (let index = 0; index < 3000; index += 1) output.write('line ' + index + '\\n'); process.exit(0);`,
    );
    read();
    await ended;
    expect(lines()).to.deep.equal(Array.from({ length: 3000 }, (_, index) => `line ${index}`));
  });

  it('never waits for a reader: lines beyond the bound are dropped and counted', async () => {
    // Far more than a pipe holds, while nobody reads; then the reader comes back, and new lines come through.
    const { child, read, ended, lines } = writer(
      `for (let index = 0; index < 200; index += 1) {
         for (let line = 0; line < 100; line += 1) output.write('x'.repeat(99) + '\\n');
         await new Promise((resolve) => setTimeout(resolve, 1));
       }
       process.stdout.write('done');
       setInterval(() => output.write('later\\n'), 5);
       process.stdin.once('data', () => process.exit(0));`,
      { maxWaitingBytes: 100_000 },
    );
    await new Promise((resolve) => child.stdout.once('data', resolve));
    read();
    while (!lines().includes('later')) await sleep(5);
    child.stdin.write('enough');
    await ended;
    const dropped = Number(/^dropped (\d+)$/m.exec(lines().join('\n'))?.[1]);
    const kept = lines().filter((line) => line === 'x'.repeat(99)).length;
    expect(dropped).to.be.greaterThan(10_000);
    expect(kept + dropped).to.be.at.least(20_000);
  });

  it('goes on without a word when nobody will ever read', async () => {
    const { child, ended } = writer(
      `process.stdin.once('data', async () => {
         for (let index = 0; index < 100; index += 1) { output.write('x'.repeat(2000)); await new Promise((resolve) => setTimeout(resolve, 1)); }
         process.stdout.write('alive'); process.exit(0);
       });
       process.stdout.write('ready');`,
    );
    await new Promise((resolve) => child.stdout.once('data', resolve));
    child.stderr.destroy();
    const said = new Promise((resolve) => child.stdout.once('data', (part) => resolve(String(part))));
    child.stdin.write('go');
    expect(await said).to.equal('alive');
    await ended;
  });
});
