import { type ChildProcess, spawn } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';

const script = path.resolve(import.meta.dirname, '../../../scripts/install.mjs');

type Packages = Record<string, Record<string, unknown>>;

const machine = { os: process.platform, cpu: process.arch };
const otherMachine = { os: ['win32'], cpu: ['x64'] };

const wanted: Packages = {
  '': { name: 'obraz', optionalDependencies: { 'node-here': '1.0.0', 'node-elsewhere': '1.0.0' } },
  'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' },
  'node_modules/a/node_modules/b': { version: '2.0.0', integrity: 'sha512-b2' },
  'node_modules/@scope/tool': { version: '3.0.0', integrity: 'sha512-tool', dev: true },
  'node_modules/node-here': { version: '1.0.0', integrity: 'sha512-here', optional: true, ...machine },
  'node_modules/node-elsewhere': { version: '1.0.0', integrity: 'sha512-elsewhere', optional: true, ...otherMachine },
  'node_modules/windows-thing': { version: '1.0.0', integrity: 'sha512-w', optional: true },
};

const here = (packages: Packages): Packages =>
  Object.fromEntries(
    Object.entries(packages).filter(
      ([name]) => !['', 'node_modules/node-elsewhere', 'node_modules/windows-thing'].includes(name),
    ),
  );

// Does what NPM_DOES says, as npm would: removes all, unpacks, and writes its own lock file last.
const fakeNpm = `
  const fs = require('fs'), path = require('path');
  fs.appendFileSync('npm.log', process.argv.slice(2).join(' ') + '\\n');
  const does = process.env.NPM_DOES;
  fs.rmSync('node_modules', { recursive: true, force: true });
  const unpack = (packages) => {
    for (const folder of Object.keys(packages)) {
      fs.mkdirSync(folder, { recursive: true });
      fs.writeFileSync(path.join(folder, 'package.json'), '{}');
    }
    fs.mkdirSync('node_modules/.bin', { recursive: true });
    fs.symlinkSync(process.env.REAL_NODE, 'node_modules/.bin/node');
  };
  const packages = JSON.parse(fs.readFileSync('wanted-here.json', 'utf8'));
  if (does === 'fail') process.exit(3);
  if (does === 'forget') delete packages['node_modules/node-here'];
  setTimeout(() => {
    unpack(packages);
    if (does === 'hang') { fs.writeFileSync('hanging.new', String(process.pid)); fs.renameSync('hanging.new', 'hanging'); setInterval(() => {}, 1000); return; }
    fs.writeFileSync('node_modules/.package-lock.json', JSON.stringify({ packages }));
  }, 150);
`;

describe('scripts/install.mjs', () => {
  let root: string;

  beforeEach(async () => {
    root = await mkdtemp(path.join(tmpdir(), 'obraz-install-'));
    await mkdir(path.join(root, 'scripts'));
    await copyFile(script, path.join(root, 'scripts/install.mjs'));
    await writeFile(path.join(root, 'npm-cli.js'), fakeNpm);
    await want(wanted);
  });

  afterEach(() => rm(root, { recursive: true, force: true }));

  async function want(packages: Packages): Promise<void> {
    await writeFile(path.join(root, 'package-lock.json'), JSON.stringify({ lockfileVersion: 3, packages }));
    await writeFile(path.join(root, 'wanted-here.json'), JSON.stringify(here(packages)));
  }

  async function have(packages: Packages): Promise<void> {
    for (const folder of Object.keys(packages)) {
      await mkdir(path.join(root, folder), { recursive: true });
      await writeFile(path.join(root, folder, 'package.json'), '{}');
    }
    await mkdir(path.join(root, 'node_modules/.bin'), { recursive: true });
    await symlink(process.execPath, path.join(root, 'node_modules/.bin/node')).catch(() => {});
    await writeFile(path.join(root, 'node_modules/.package-lock.json'), JSON.stringify({ packages }));
  }

  interface Run {
    child: ChildProcess;
    ended: Promise<{ code: number | null; output: string }>;
  }

  function begin(args: string[] = [], environment: Record<string, string> = {}): Run {
    const child = spawn(process.execPath, [path.join(root, 'scripts/install.mjs'), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        REAL_NODE: process.execPath,
        npm_execpath: path.join(root, 'npm-cli.js'),
        npm_node_execpath: process.execPath,
        ...environment,
      },
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text));
    const ended = new Promise<{ code: number | null; output: string }>((resolve) =>
      child.once('close', (code) => resolve({ code, output })),
    );
    return { child, ended };
  }

  const install = (args?: string[], environment?: Record<string, string>) => begin(args, environment).ended;

  const npmRuns = async (): Promise<string[]> =>
    (await readFile(path.join(root, 'npm.log'), 'utf8').catch(() => '')).split('\n').filter((line) => line !== '');

  const fileAppears = async (name: string): Promise<void> => {
    const deadline = Date.now() + 30_000;
    while (!(await readdir(root)).includes(name)) {
      if (Date.now() > deadline) throw new Error(`${name} did not appear within 30 s`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };

  it('does nothing, and says nothing, when everything is there', async () => {
    await have(here(wanted));
    expect(await install()).to.deep.equal({ code: 0, output: '' });
    expect(await npmRuns()).to.deep.equal([]);
  });

  it('installs on a fresh clone, without install scripts, and once', async () => {
    const { code, output } = await install();
    expect(code, output).to.equal(0);
    await install();
    const runs = await npmRuns();
    expect(runs).to.have.length(1);
    expect(runs[0]).to.match(/^ci --ignore-scripts .*--include=dev --include=optional/);
  });

  const changes: [string, (packages: Packages) => void][] = [
    ['a package of another version', (packages) => (packages['node_modules/a']!['version'] = '0.9.0')],
    ['a package of other content', (packages) => (packages['node_modules/a']!['integrity'] = 'sha512-other')],
    ['a nested package missing', (packages) => delete packages['node_modules/a/node_modules/b']],
    ['a development package missing', (packages) => delete packages['node_modules/@scope/tool']],
    ["this machine's own optional package missing", (packages) => delete packages['node_modules/node-here']],
    ['a package that is not wanted any more', (packages) => (packages['node_modules/old'] = { version: '1.0.0' })],
  ];
  for (const [what, change] of changes) {
    it(`installs when there is ${what}`, async () => {
      const packages = structuredClone(here(wanted));
      change(packages);
      await have(packages);
      const { code, output } = await install();
      expect(code, output).to.equal(0);
      expect(await npmRuns()).to.have.length(1);
    });
  }

  it('installs again after an installation that was cut short', async () => {
    await have(here(wanted));
    await rm(path.join(root, 'node_modules/.package-lock.json'));
    expect((await install()).code).to.equal(0);
    expect(await npmRuns()).to.have.length(1);
  });

  it('installs when a package has lost its files, or the list is broken', async () => {
    await have(here(wanted));
    await rm(path.join(root, 'node_modules/a/package.json'));
    expect((await install()).code).to.equal(0);
    await writeFile(path.join(root, 'node_modules/.package-lock.json'), '{"pack');
    expect((await install()).code).to.equal(0);
    expect(await npmRuns()).to.have.length(2);
  });

  it('does without development packages when only the service is to run', async () => {
    const packages = here(wanted);
    delete packages['node_modules/@scope/tool'];
    await have(packages);
    expect(await install(['--runtime'])).to.deep.equal({ code: 0, output: '' });
    expect(await npmRuns()).to.deep.equal([]);
  });

  it('says so when npm could not fetch what this machine needs', async () => {
    const { code, output } = await install([], { NPM_DOES: 'forget' });
    expect(code).to.equal(1);
    expect(output).to.contain('node-here is not installed');
  });

  it("ends with npm's exit code, and lets the next one try", async () => {
    const { code, output } = await install([], { NPM_DOES: 'fail' });
    expect(code).to.equal(3);
    expect(output).to.contain('npm ci failed (3)');
    expect((await install()).code).to.equal(0);
  });

  it('installs once when several start at the same time', async () => {
    const outcomes = await Promise.all(Array.from({ length: 4 }, () => install()));
    for (const { code, output } of outcomes) expect(code, output).to.equal(0);
    expect(await npmRuns()).to.have.length(1);
    expect((await readdir(root)).filter((name) => name.startsWith('.install'))).to.deep.equal([]);
  });

  it('is not stopped by one that was killed, whoever has its id by now', async () => {
    const { child } = begin([], { NPM_DOES: 'hang' });
    await fileAppears('hanging');
    child.kill('SIGKILL');
    const waiting = begin();
    await new Promise<void>((resolve) => waiting.child.stderr!.once('data', () => resolve()));
    expect(await npmRuns(), 'the npm of the killed one still runs').to.have.length(1);
    process.kill(Number(await readFile(path.join(root, 'hanging'), 'utf8')), 'SIGKILL');
    const { code, output } = await waiting.ended;
    expect(code, output).to.equal(0);
    expect(output).to.contain('waiting for another process');
    expect(await npmRuns()).to.have.length(2);
    if (process.platform === 'linux') {
      await rm(path.join(root, 'node_modules'), { recursive: true });
      await writeFile(path.join(root, '.install.lock'), JSON.stringify({ pid: process.pid, start: '1' }));
      expect((await install()).code).to.equal(0);
    }
  });

  it('passes a signal on to npm, and gives the lock back', async () => {
    const { child, ended } = begin([], { NPM_DOES: 'hang' });
    await fileAppears('hanging');
    child.kill('SIGTERM');
    expect((await ended).code).to.equal(130);
    expect((await readdir(root)).includes('.install.lock')).to.equal(false);
  });

  it('says what is missing without a lock file', async () => {
    await rm(path.join(root, 'package-lock.json'));
    const { code, output } = await install();
    expect(code).to.equal(1);
    expect(output).to.contain('there is no package-lock.json');
  });
});
