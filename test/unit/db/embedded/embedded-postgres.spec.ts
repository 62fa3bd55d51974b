import { chmod, chown, mkdir, mkdtemp, readFile, readdir, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { Client } from 'pg';
import { locationFile, outsideFolder } from '../../../../src/db/embedded/cluster-home.ts';
import {
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  startEmbeddedPostgres,
} from '../../../../src/db/embedded/embedded-postgres.ts';
import { isPostmaster } from '../../../../src/db/embedded/orphan.ts';
import { canEnter } from '../../../../src/db/embedded/server-user.ts';
import { run } from '../../../../src/platform/child-process.ts';
import { exists } from '../../../../src/platform/durable-file.ts';
import { StartError } from '../../../../src/platform/start-error.ts';
import { isLongRun, sampledIt, testSeed } from '../../../support/sample.ts';
import { removeDataFolder } from '../../../support/postgres.ts';
import { Program, type ProgramOptions } from '../../../support/programs.ts';

const isRoot = process.getuid!() === 0;
const stranger = { uid: 54_321, gid: 54_321 };

// A service that has its database and nothing else: prints "ready <pid of the server> <url>", ends well at SIGTERM.
const service = `
  import { startEmbeddedPostgres } from '$src/db/embedded/embedded-postgres.ts';
  try {
    const database = await startEmbeddedPostgres({ dataDir: process.argv[1], durable: false });
    console.log('ready', database.pid, database.url);
    const alive = setInterval(() => {}, 60_000);
    process.once('SIGTERM', async () => {
      await database[Symbol.asyncDispose]();
      clearInterval(alive);
    });
  } catch (error) {
    console.log(error.name + ': ' + error.message);
    process.exitCode = 1;
  }
`;

interface Service {
  program: Program;
  pid: number;
  url: string;
}

async function serve(dataDir: string, options?: ProgramOptions): Promise<Service> {
  const program = new Program(service, [dataDir], options);
  try {
    await program.says('\n');
    const [, pid, url] = /^ready (\d+) (\S+)$/m.exec(program.output) ?? [];
    if (pid === undefined || url === undefined) throw new Error(program.output);
    return { program, pid: Number(pid), url };
  } catch (error) {
    await program.kill();
    throw error;
  }
}

async function query<Row extends object>(url: string, sql: string): Promise<Row[]> {
  const client = new Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited 30 s in vain until ${what}`);
    await sleep(10);
  }
}

/** Kills the service so that its server lives on: the watcher first. */
async function orphan({ program, pid }: Service): Promise<void> {
  const { output } = await run('ps', ['-A', '-ww', '-o', 'pid=,args='], { timeoutMs: 10_000 });
  const line = output.split('\n').find((each) => each.includes(`obraz-watch ${pid} `));
  process.kill(Number.parseInt(line!, 10), 'SIGKILL');
  await program.kill();
}

const failure = (starting: Promise<EmbeddedPostgres>): Promise<Error> =>
  starting.then(
    async (database) => {
      await database[Symbol.asyncDispose]();
      throw new Error('it started');
    },
    (error: Error) => error,
  );

const sampled = sampledIt({ of: 4 });

describe(`startEmbeddedPostgres (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(120_000);
  let parent: string;
  let dataDir: string;
  let cluster: string;
  const warnings: string[] = [];
  // A data folder that was used before, to copy: most tests are not about making a cluster, which takes a second.
  let used: string;

  const start = (options: Partial<EmbeddedPostgresOptions> = {}): Promise<EmbeddedPostgres> =>
    startEmbeddedPostgres({
      dataDir,
      durable: false,
      log: { info: () => {}, warn: (message) => void warnings.push(message) },
      ...options,
    });

  before(async () => {
    used = await realpath(await mkdtemp(path.join(tmpdir(), 'obraz-pg-used-')));
    await (await startEmbeddedPostgres({ dataDir: used, durable: false }))[Symbol.asyncDispose]();
    expect(await exists(path.join(used, 'postgres/data')), `${tmpdir()} can be reached by PostgreSQL's user`).to.equal(true);
  });

  after(() => removeDataFolder(used));

  beforeEach(async () => {
    parent = await realpath(await mkdtemp(path.join(tmpdir(), 'obraz-pg-')));
    await chmod(parent, 0o755);
    dataDir = path.join(parent, 'data');
    cluster = path.join(dataDir, 'postgres/data');
    await run('cp', ['-a', used, dataDir], { timeoutMs: 60_000 });
    warnings.length = 0;
  });

  async function fresh(name: string): Promise<void> {
    dataDir = path.join(parent, name);
    cluster = path.join(dataDir, 'postgres/data');
    await mkdir(dataDir, { mode: 0o700 });
  }

  afterEach(async () => {
    await removeDataFolder(dataDir);
    await rm(parent, { recursive: true, force: true });
  });

  describe('the server', () => {
    it('is set up the same whatever the environment says, and its secrets are for its user alone', async () => {
      await fresh('first');
      const environment = {
        PATH: process.env['PATH'],
        LANG: 'tr_TR.ISO-8859-9',
        LC_ALL: 'no_SUCH',
        TZ: 'Asia/Tokyo',
        PGDATA: '/nowhere',
        PGHOST: '192.0.2.1',
        PGPORT: '1',
        PGUSER: 'nobody',
        PGPASSWORD: 'wrong',
        PGDATABASE: 'nothing',
        PGSSLMODE: 'require',
        PGOPTIONS: '-c nonsense=1',
        PGCLIENTENCODING: 'LATIN1',
        LD_LIBRARY_PATH: '/nowhere',
      };
      const started = await serve(dataDir, { environment });
      await using _ = started.program;
      const [settings] = await query(
        started.url,
        `select current_setting('server_encoding') as encoding, current_setting('listen_addresses') as tcp,
                current_setting('TimeZone') as zone, current_setting('max_connections') as connections,
                current_setting('shared_buffers') as buffers, current_setting('data_checksums') as checksums,
                datlocprovider as provider, datlocale as locale, datcollate as collate, current_user as role,
                'a' < 'B' as by_language, (select rolsuper from pg_roles where rolname = current_user) as superuser
           from pg_database where datname = current_database()`,
      );
      expect(settings).to.deep.equal({
        encoding: 'UTF8',
        tcp: '',
        zone: 'UTC',
        connections: '100',
        buffers: '128MB',
        checksums: 'on',
        provider: 'b',
        locale: 'C.UTF-8',
        collate: 'C',
        role: 'obraz',
        by_language: false,
        superuser: false,
      });
      expect((await stat(path.join(dataDir, 'postgres/password'))).mode & 0o777).to.equal(0o600);
      expect((await stat(cluster)).mode & 0o777).to.equal(0o700);
      expect(await readFile(path.join(cluster, 'pg_hba.conf'), 'utf8')).to.match(/^local\s+all\s+all\s+scram-sha-256$/m);
      const wrong = new URL(started.url);
      wrong.password = 'wrong';
      expect(await query(wrong.href, 'select 1').catch((error: Error) => error.message)).to.contain(
        'password authentication failed',
      );
    });

    sampled('writes to the disk before it answers, unless a test says otherwise', async () => {
      await using database = await start({ durable: true });
      const [settings] = await query(
        database.url,
        `select current_setting('fsync') as fsync, current_setting('synchronous_commit') as commit,
                current_setting('full_page_writes') as pages`,
      );
      expect(settings).to.deep.equal({ fsync: 'on', commit: 'on', pages: 'on' });
    });

    sampled('keeps its data from start to start, its own PostgreSQL settings too', async () => {
      {
        await using database = await start();
        await query(database.url, 'create table kept as select 7 as n');
      }
      await writeFile(path.join(dataDir, 'postgres/postgresql.local.conf'), "work_mem = '9MB'\n", { mode: 0o644 });
      await using again = await start();
      expect(await query(again.url, "select n, current_setting('work_mem') as memory from kept")).to.deep.equal([
        { n: 7, memory: '9MB' },
      ]);
      expect(warnings).to.deep.equal([]);
    });

    sampled('leaves nothing behind when it is stopped', async () => {
      const database = await start();
      const { pid } = database;
      await Promise.all([database[Symbol.asyncDispose](), database[Symbol.asyncDispose]()]);
      expect(await isPostmaster(pid, cluster)).to.equal(false);
      expect((await readdir(path.join(dataDir, 'postgres'))).sort()).to.deep.equal([
        'data',
        'lock',
        'password',
        'postgres.log',
        'postgresql.conf',
      ]);
      const { output } = await run('ps', ['-A', '-ww', '-o', 'args='], { timeoutMs: 10_000 });
      expect(output).not.to.contain(dataDir);
      await (await start())[Symbol.asyncDispose]();
    });

    sampled('has its socket in a temporary folder when the data folder is deep, and takes the folder away', async () => {
      await fresh('a-name-of-many-characters-'.repeat(6));
      const killed = await serve(dataDir);
      const left = decodeURIComponent(new URL(killed.url).hostname);
      expect(left.startsWith(dataDir)).to.equal(false);
      expect((await stat(left)).mode & 0o777).to.equal(0o700);
      await killed.program.kill();
      const database = await start();
      expect(await query(database.url, 'select 1 as n')).to.deep.equal([{ n: 1 }]);
      expect(await exists(left)).to.equal(false);
      await database[Symbol.asyncDispose]();
      expect(await exists(database.connection.host)).to.equal(false);
    });

    sampled('works with names that need quoting', async () => {
      dataDir = path.join(parent, 'it\'s 100% \\ "ü" [x]:@?#');
      await mkdir(dataDir);
      await using database = await start();
      expect(await query(database.url, 'select current_user as role')).to.deep.equal([{ role: 'obraz' }]);
    });

    sampled('bounds its log', async () => {
      const log = path.join(dataDir, 'postgres/postgres.log');
      await writeFile(log, 'x'.repeat(9 * 1024 * 1024));
      await using _database = await start();
      expect((await stat(log)).size).to.be.lessThan(64 * 1024);
      expect((await stat(`${log}.1`)).size).to.equal(9 * 1024 * 1024);
    });
  });

  describe('restart', () => {
    for (const mode of ['fast', 'immediate'] as const) {
      sampled(`comes back with what was committed (${mode})`, async () => {
        await using database = await start();
        let failed = false;
        void database.failed.then(() => (failed = true));
        await query(database.url, 'create table kept as select 7 as n');
        const { pid } = database;
        await database.restart(mode);
        expect(database.pid).not.to.equal(pid);
        expect(await query(database.url, 'select n from kept')).to.deep.equal([{ n: 7 }]);
        expect(failed).to.equal(false);
      });
    }

    sampled('tells of a server that ended though nobody stopped it, and can be disposed of then', async () => {
      await using database = await start();
      process.kill(database.pid, 'SIGKILL');
      expect((await database.failed).message)
        .to.contain('has ended')
        .and.contain('postgres.log');
    });
  });

  describe('after a crash', () => {
    sampled('the watcher stops the server when the service is killed', async () => {
      const { program, pid } = await serve(dataDir);
      expect(await isPostmaster(pid, cluster)).to.equal(true);
      await program.kill();
      await until(async () => !(await isPostmaster(pid, cluster)), 'the server ended');
      await (await start())[Symbol.asyncDispose]();
    });

    sampled('a server that lives on is found and stopped, and its data is there', async () => {
      const killed = await serve(dataDir);
      await query(killed.url, 'create table kept as select 7 as n');
      await orphan(killed);
      expect(await isPostmaster(killed.pid, cluster)).to.equal(true);
      await using database = await start();
      expect(await isPostmaster(killed.pid, cluster)).to.equal(false);
      expect(warnings.join()).to.contain(`stopping PostgreSQL (process ${killed.pid})`);
      expect(await query(database.url, 'select n from kept')).to.deep.equal([{ n: 7 }]);
    });

    sampled('a server that was stopped (SIGSTOP) and lives on is found, too', async () => {
      const killed = await serve(dataDir);
      await orphan(killed);
      process.kill(killed.pid, 'SIGSTOP');
      await using _database = await start();
      expect(await isPostmaster(killed.pid, cluster)).to.equal(false);
    });

    sampled('a server whose data folder has been moved is found, too', async () => {
      const killed = await serve(dataDir);
      await orphan(killed);
      await rename(dataDir, `${dataDir}-moved`);
      dataDir += '-moved';
      await using _database = await start();
      expect(await isPostmaster(killed.pid, path.join(dataDir, 'postgres/data'))).to.equal(false);
    });

    sampled('a killed server is no obstacle: recovery brings back what was committed', async () => {
      const killed = await serve(dataDir);
      await query(killed.url, 'create table kept as select 7 as n');
      await orphan(killed);
      process.kill(killed.pid, 'SIGKILL');
      await using database = await start();
      expect(await query(database.url, 'select n from kept')).to.deep.equal([{ n: 7 }]);
    });

    sampled('a process that has the old id by now is left alone: an innocent one', async () => {
      await using bystander = new Program("console.log('here'); setInterval(() => {}, 60_000);", []);
      await bystander.says('here');
      await writeFile(path.join(cluster, 'postmaster.pid'), `${bystander.child.pid}\n${cluster}\n1\n5432\n/x\n\n1 1\nready   \n`);
      await using _database = await start();
      expect(bystander.running).to.equal(true);
    });

    sampled('a process that has the old id by now is left alone: the server of another data folder', async () => {
      const other = path.join(parent, 'other');
      await run('cp', ['-a', used, other], { timeoutMs: 60_000 });
      await using neighbour = await start({ dataDir: other });
      await writeFile(path.join(cluster, 'postmaster.pid'), `${neighbour.pid}\n${cluster}\n1\n5432\n/x\n\n1 1\nready   \n`);
      await using _database = await start();
      expect(await query(neighbour.url, 'select 1 as n')).to.deep.equal([{ n: 1 }]);
    });

    sampled('an empty or broken pid file is no obstacle', async () => {
      for (const text of ['', 'x\n', '-1\n', '0\n', '1\n', '99999999999999\n']) {
        await writeFile(path.join(cluster, 'postmaster.pid'), text);
        await (await start())[Symbol.asyncDispose]();
      }
    });

    sampled('a first start that was killed at any moment leaves no half cluster', async () => {
      const delaysMs = isLongRun ? [150, 250, 350, 450, 550, 650, 800, 1000, 1500] : [350];
      for (const delayMs of [0, ...delaysMs]) {
        await fresh(`killed-after-${delayMs}`);
        await using killed = new Program(service, [dataDir]);
        const home = path.join(dataDir, 'postgres');
        if (delayMs === 0) {
          const unfinished = async () =>
            (await readdir(home).catch(() => [])).some((name) => name.startsWith('data.unfinished-'));
          await until(unfinished, 'initdb began');
        } else {
          await sleep(delayMs);
        }
        await killed.kill();
        await using database = await start({ dataDir });
        expect(await query(database.url, 'select current_user as role')).to.deep.equal([{ role: 'obraz' }]);
        expect((await readdir(home)).filter((name) => name.includes('unfinished'))).to.deep.equal([]);
      }
    });
  });

  describe('refuses, with words,', () => {
    const refused = async (options?: Partial<EmbeddedPostgresOptions>): Promise<string> => {
      const error = await failure(start(options));
      expect(error).to.be.instanceOf(StartError);
      return error.message;
    };

    sampled('a second server on a data folder in use', async () => {
      const { program, url } = await serve(dataDir);
      await using _ = program;
      expect(await refused())
        .to.contain(dataDir)
        .and.contain('in use by another process');
      expect(await query(url, 'select 1 as n')).to.deep.equal([{ n: 1 }]);
    });

    sampled('a cluster of another major version', async () => {
      await writeFile(path.join(cluster, 'PG_VERSION'), '17\n');
      expect(await refused())
        .to.contain('is of PostgreSQL 17')
        .and.contain('brings PostgreSQL 18')
        .and.contain('pg_dump');
    });

    sampled('a folder that is no cluster', async () => {
      await fresh('first');
      await mkdir(cluster, { recursive: true });
      expect(await refused()).to.contain('is not a PostgreSQL cluster');
    });

    sampled('a cluster whose password is gone', async () => {
      await rm(path.join(dataDir, 'postgres/password'));
      expect(await refused()).to.contain('password');
    });

    sampled('a cluster that does not start, showing the end of its log', async () => {
      await writeFile(path.join(dataDir, 'postgres/postgresql.local.conf'), 'no_such_setting = 1\n', { mode: 0o644 });
      expect(await refused())
        .to.contain('no_such_setting')
        .and.contain('postgres.log');
    });

    sampled('a cluster of another user', async function () {
      if (!isRoot) return skipWithoutRoot(this);
      await chown(path.join(dataDir, 'postgres'), stranger.uid, stranger.gid);
      expect(await refused())
        .to.contain(`made by the user with uid ${stranger.uid}`)
        .and.contain('runs as uid 0');
    });
  });

  describe('when it is abandoned', () => {
    for (const delayMs of [0, 100, 300, 700]) {
      sampled(`ends what it has started, after ${delayMs} ms`, async () => {
        await fresh('first');
        const reason = new Error('enough');
        const controller = new AbortController();
        const starting = start({ signal: controller.signal });
        const timer = setTimeout(() => controller.abort(reason), delayMs);
        const outcome = await starting.catch((error: unknown) => error);
        clearTimeout(timer);
        if (outcome !== reason) await (outcome as EmbeddedPostgres)[Symbol.asyncDispose]();
        const { output } = await run('ps', ['-A', '-ww', '-o', 'args='], { timeoutMs: 10_000 });
        expect(output).not.to.contain(dataDir);
        await (await start())[Symbol.asyncDispose]();
      });
    }

    sampled('does not begin when it is abandoned before', async () => {
      await fresh('first');
      expect((await failure(start({ signal: AbortSignal.abort(new Error('enough')) }))).message).to.equal('enough');
      expect(await readdir(dataDir)).to.deep.equal([]);
    });
  });

  describe('as root', () => {
    beforeEach(function () {
      if (!isRoot) skipWithoutRoot(this);
    });

    sampled('runs as another user, whose group may pass through the data folder and see nothing', async () => {
      await using database = await start();
      expect((await stat(cluster)).uid).not.to.equal(0);
      expect((await stat(`/proc/${database.pid}`).catch(() => stat(cluster))).uid).to.equal((await stat(cluster)).uid);
      expect((await stat(dataDir)).mode & 0o777).to.equal(0o710);
    });

    sampled('works under any umask', async () => {
      await fresh('first');
      const umask = process.umask(0o077);
      try {
        await (await start())[Symbol.asyncDispose]();
      } finally {
        process.umask(umask);
      }
    });

    sampled(
      'keeps the cluster outside when a parent is closed, says where, and never mistakes an old one for its own',
      async () => {
        await fresh('first');
        await chmod(parent, 0o700);
        {
          await using database = await start();
          await query(database.url, 'create table kept as select 7 as n');
        }
        const home = (await readFile(locationFile(dataDir), 'utf8')).trim();
        expect(path.dirname(home)).to.equal(outsideFolder);
        expect((await stat(dataDir)).mode & 0o777, 'nothing is opened in vain').to.equal(0o700);
        {
          await using database = await start();
          expect(await query(database.url, 'select n from kept')).to.deep.equal([{ n: 7 }]);
          const copy = path.join(parent, 'copy');
          await mkdir(copy);
          await writeFile(locationFile(copy), `${home}\n`);
          expect((await failure(start({ dataDir: copy }))).message).to.contain('a copy of this data folder');
        }
        const old = `${dataDir}-old`;
        await rename(dataDir, old);
        await mkdir(dataDir, { mode: 0o700 });
        try {
          await using database = await start();
          expect((await query<{ kept: unknown }>(database.url, "select to_regclass('kept') as kept"))[0]!.kept).to.equal(null);
        } finally {
          await removeDataFolder(old);
        }
      },
    );

    sampled('says so when the cluster outside is gone', async () => {
      await writeFile(locationFile(dataDir), `${outsideFolder}/gone\n`);
      expect((await failure(start())).message)
        .to.contain(`lies in ${outsideFolder}/gone`)
        .and.contain('is gone');
    });

    sampled('says so when the cluster inside cannot be reached any more, and makes no second one', async () => {
      await chmod(parent, 0o700);
      expect((await failure(start())).message)
        .to.contain('cannot be reached')
        .and.contain('chmod o+x');
      expect(await exists(locationFile(dataDir))).to.equal(false);
    });

    sampled('works for an ordinary user as well', async function () {
      const nobody = await idOfNobody();
      if (nobody === undefined || !(await canEnter(import.meta.dirname, { ...nobody, name: 'nobody' }))) {
        console.warn('SKIPPED: there is no ordinary user who can reach this tree');
        return this.skip();
      }
      await fresh('first');
      await chown(dataDir, nobody.uid, nobody.gid);
      const environment = { PATH: process.env['PATH'], HOME: parent };
      for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
        const { program, pid } = await serve(dataDir, { user: nobody, environment });
        await using _ = program;
        expect((await stat(cluster)).uid).to.equal(nobody.uid >>> 0);
        await program.kill(signal);
        if (signal === 'SIGTERM') expect(await isPostmaster(pid, cluster)).to.equal(false);
      }
      expect((await failure(start())).message).to.contain(`made by the user with uid ${nobody.uid >>> 0}`);
    });

    sampled('tells a user who has no name to get one', async function () {
      if (!(await canEnter(import.meta.dirname, { ...stranger, name: 'stranger' }))) {
        console.warn('SKIPPED: an ordinary user cannot reach this tree');
        return this.skip();
      }
      await fresh('first');
      await chown(dataDir, stranger.uid, stranger.gid);
      await using program = new Program(service, [dataDir], { user: stranger });
      await program.exited;
      expect(program.output).to.contain(`Give uid ${stranger.uid} a name`);
    });
  });
});

async function idOfNobody(): Promise<{ uid: number; gid: number } | undefined> {
  const [uid, gid] = await Promise.all(['-u', '-g'].map((option) => run('id', [option, 'nobody'], { timeoutMs: 10_000 })));
  return uid!.code === 0 && gid!.code === 0 ? { uid: Number(uid!.output) | 0, gid: Number(gid!.output) | 0 } : undefined;
}

function skipWithoutRoot(context: Mocha.Context): void {
  console.warn('SKIPPED: only root can act as two users');
  context.skip();
}
