import { chmod, chown, mkdir, mkdtemp, readFile, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { type DataFolder, openDataFolder } from '../../../src/platform/data-folder.ts';
import { StartError } from '../../../src/platform/start-error.ts';
import { Program, type ProgramOptions } from '../../support/programs.ts';
import { isLongRun } from '../../support/sample.ts';

// Prints "held" and holds the folder until it is killed, or prints why it cannot and ends with 1.
const holder = `
  import { openDataFolder } from '$src/platform/data-folder.ts';
  try {
    globalThis.folder = await openDataFolder(process.argv[1]);
    console.log('held');
    setInterval(() => {}, 60_000);
  } catch (error) {
    console.log(error.name + ': ' + error.message);
    process.exitCode = 1;
  }
`;
const hold = (folder: string, options?: ProgramOptions): Program => new Program(holder, [folder], options);

const refusal = (opening: Promise<DataFolder>): Promise<Error> =>
  opening.then(
    async (folder) => {
      await folder[Symbol.asyncDispose]();
      throw new Error('it was opened');
    },
    (error: Error) => error,
  );

const races = isLongRun ? 30 : 2;

const isRoot = process.getuid!() === 0;
const stranger = { uid: 54_321, gid: 54_321 };

describe('openDataFolder', () => {
  let parent: string;
  let folder: string;

  beforeEach(async () => {
    parent = await realpath(await mkdtemp(path.join(tmpdir(), 'obraz-folder-')));
    folder = path.join(parent, 'data');
  });

  afterEach(() => rm(parent, { recursive: true, force: true }));

  it('makes the folder for its user alone, and its parents as usual', async () => {
    const deep = path.join(parent, 'a/b/data');
    await using opened = await openDataFolder(deep);
    expect(opened.path).to.equal(deep);
    expect((await stat(deep)).mode & 0o777).to.equal(0o700);
    expect((await stat(path.dirname(deep))).mode & 0o777).to.equal(0o777 & ~process.umask());
  });

  it('answers the real path of a folder behind a link, and the same lock', async () => {
    await mkdir(folder);
    await symlink(folder, path.join(parent, 'link'));
    await using opened = await openDataFolder(path.join(parent, 'link'));
    expect(opened.path).to.equal(folder);
    expect((await refusal(openDataFolder(folder))).message).to.contain('is in use');
  });

  it('refuses a second opening in the same process, without losing the first', async () => {
    await using opened = await openDataFolder(folder);
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const error = await refusal(openDataFolder(opened.path));
      expect(error).to.be.instanceOf(StartError);
      expect(error.message).to.contain(`in use by process ${process.pid},`);
    }
    await using other = hold(folder);
    expect((await other.exited).code).to.equal(1);
  });

  it('can be opened again after disposal', async () => {
    for (let round = 0; round < 3; round += 1) await (await openDataFolder(folder))[Symbol.asyncDispose]();
    await using other = hold(folder);
    await other.says('held');
  });

  it('says which folder, which process and what to do when another process has it', async () => {
    await using other = hold(folder);
    await other.says('held');
    const error = await refusal(openDataFolder(folder));
    expect(error).to.be.instanceOf(StartError);
    expect(error.message).to.contain(folder);
    expect(error.message).to.contain(`process ${other.child.pid},`);
    expect(error.message).to.contain(`kill ${other.child.pid}`);
    expect(error.message).to.contain('OBRAZ_DATA_DIR');
  });

  it('is free at once after kill -9 of the holder', async () => {
    await using other = hold(folder);
    await other.says('held');
    await other.kill();
    await using opened = await openDataFolder(folder);
    expect(JSON.parse(await readFile(path.join(opened.path, 'process.json'), 'utf8'))).to.include({ pid: process.pid });
  });

  it('stays held while the holder is stopped', async () => {
    await using other = hold(folder);
    await other.says('held');
    other.child.kill('SIGSTOP');
    expect((await refusal(openDataFolder(folder))).message).to.contain(`process ${other.child.pid},`);
  });

  it('is not fooled by a process id that someone else has by now', async () => {
    await (await openDataFolder(folder))[Symbol.asyncDispose]();
    await writeFile(path.join(folder, 'process.json'), JSON.stringify({ pid: process.ppid, startedAt: 'long ago' }));
    await (await openDataFolder(folder))[Symbol.asyncDispose]();
  });

  it('still refuses when nothing tells who holds it', async () => {
    await using other = hold(folder);
    await other.says('held');
    for (const text of ['', '{"pid":', 'null', '{"pid":2147483646,"startedAt":"x"}']) {
      await writeFile(path.join(folder, 'process.json'), text);
      expect((await refusal(openDataFolder(folder))).message, text).to.contain('in use by another process');
    }
  });

  it('has exactly one winner when processes race', async function () {
    this.timeout(300_000);
    for (let round = 0; round < races; round += 1) {
      const racers = Array.from({ length: 5 }, () => hold(path.join(parent, `race-${round}`)));
      try {
        // A loser ends without a word; its last words are read when it has ended.
        await Promise.all(racers.map((racer) => racer.says('held').catch(() => racer.exited)));
        const winners = racers.filter((racer) => racer.output.includes('held'));
        expect(winners).to.have.length(1);
        for (const loser of racers.filter((racer) => racer !== winners[0])) {
          expect(loser.output).to.contain(`StartError: The data folder ${path.join(parent, `race-${round}`)} is in use by`);
          expect(loser.output).to.contain(`process ${winners[0]!.child.pid},`);
        }
      } finally {
        for (const racer of racers) await racer[Symbol.asyncDispose]();
      }
    }
  });

  it('is handed on without a gap or an overlap when holders are killed while others try', async () => {
    const log = path.join(parent, 'log');
    const relay = `
      import { appendFileSync } from 'node:fs';
      import { openDataFolder } from '$src/platform/data-folder.ts';
      for (;;) {
        try { globalThis.folder = await openDataFolder(process.argv[1]); break; } catch {}
      }
      appendFileSync(process.argv[2], process.pid + ' in\\n');
      setTimeout(() => { appendFileSync(process.argv[2], process.pid + ' out\\n'); process.kill(process.pid, 'SIGKILL'); }, 30);
    `;
    const runners = Array.from({ length: 5 }, () => new Program(relay, [folder, log]));
    await Promise.all(runners.map((runner) => runner.exited));
    const lines = (await readFile(log, 'utf8')).trim().split('\n');
    expect(lines).to.have.length(10);
    for (let index = 0; index < lines.length; index += 2) {
      const pid = lines[index]!.split(' ')[0]!;
      expect(lines.slice(index, index + 2)).to.deep.equal([`${pid} in`, `${pid} out`]);
    }
  });

  it('refuses a path that is a file', async () => {
    await writeFile(folder, '');
    const error = await refusal(openDataFolder(folder));
    expect(error).to.be.instanceOf(StartError);
    expect(error.message).to.contain('is not a folder');
  });

  it('says why a folder below a file cannot be made', async () => {
    await writeFile(folder, '');
    const error = await refusal(openDataFolder(path.join(folder, 'data')));
    expect(error).to.be.instanceOf(StartError);
    expect(error.message).to.match(/cannot be used: .*(ENOTDIR|EEXIST).* OBRAZ_DATA_DIR/);
  });

  it("tells an ordinary user that a folder is root's", async function () {
    if (!isRoot) return skipWithoutRoot(this);
    await chmod(parent, 0o755);
    await (await openDataFolder(folder))[Symbol.asyncDispose]();
    await using other = hold(folder, { user: stranger });
    expect((await other.exited).code).to.equal(1);
    expect(other.output).to.contain(`StartError: The data folder ${folder} was made by the user with uid 0`);
    expect(other.output).to.contain(`runs as uid ${stranger.uid}`);
  });

  it("tells root that a folder is an ordinary user's, before anything in it is root's", async function () {
    if (!isRoot) return skipWithoutRoot(this);
    await chmod(parent, 0o755);
    await mkdir(folder);
    await chown(folder, stranger.uid, stranger.gid);
    await using other = hold(folder, { user: stranger });
    await other.says('held');
    await other.kill();
    const error = await refusal(openDataFolder(folder));
    expect(error.message).to.contain(`was made by the user with uid ${stranger.uid}, and this process runs as uid 0`);
    expect((await stat(path.join(folder, 'process.json'))).uid).to.equal(stranger.uid);
  });
});

function skipWithoutRoot(context: Mocha.Context): void {
  console.warn('SKIPPED: only root can act as two users');
  context.skip();
}
