// Brings node_modules to what package-lock.json says, when it is not there yet: `npm start` on a fresh clone needs nothing before it.
//
//   node scripts/install.mjs             everything
//   node scripts/install.mjs --runtime   what the service needs; development packages may be missing
//
// Runs under the machine's own Node, which may be old (14 or later) and is not the one that runs the service. What is installed is read
// from node_modules/.package-lock.json, which npm writes last: an interrupted installation has none. Packages' install scripts are not
// run. Several at once wait for the first.
import { spawn, spawnSync } from 'child_process';
import { existsSync, readFileSync, renameSync, statSync, unlinkSync, writeFileSync } from 'fs';
import { dirname, join, resolve } from 'path';
import { fileURLToPath } from 'url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const runtimeOnly = process.argv.includes('--runtime');
const lockFile = join(root, '.install.lock');
const waitLimitMs = 15 * 60 * 1000;
const unfinishedMs = 5000;
const requiredNodeMajor = 24;

async function main() {
  if (faults().length === 0) return 0;
  const held = await lock();
  try {
    // Another process may have installed while this one waited.
    const before = faults();
    if (before.length === 0) return 0;
    process.stderr.write(`install: ${before[0]}; running npm ci\n`);
    const code = await npmCi(held);
    if (code !== 0) {
      process.stderr.write(`install: npm ci failed (${code}). ${advice()}\n`);
      return typeof code === 'number' ? code : 130;
    }
    const after = faults();
    if (after.length > 0) {
      process.stderr.write(`install: npm ci has ended, and still:\n  ${after.slice(0, 5).join('\n  ')}\n`);
      return 1;
    }
    return checkNode();
  } finally {
    held.release();
  }
}

// --- what is installed

/** Ways in which node_modules differs from package-lock.json, in words; none: nothing is to be done. */
function faults() {
  const wanted = readJson(join(root, 'package-lock.json'));
  if (wanted === undefined) throw new Error(`there is no package-lock.json in ${root}`);
  const installed = readJson(join(root, 'node_modules', '.package-lock.json'));
  if (installed === undefined) return ['the dependencies are not installed'];
  const found = [];
  const ownOptional = wanted.packages[''].optionalDependencies || {};
  for (const [path, entry] of Object.entries(wanted.packages)) {
    if (path === '' || entry.link || (runtimeOnly && entry.dev)) continue;
    const name = path.slice('node_modules/'.length);
    const present = installed.packages[path];
    if (present === undefined) {
      // npm leaves out what is for other machines, and what only such packages need. Of ours, this machine's must be there: they bring
      // Node and PostgreSQL, and npm does not fail when it cannot fetch an optional package.
      const mayBeMissing = entry.optional || entry.devOptional || entry.peer;
      if (!mayBeMissing || (ownOptional[name] !== undefined && fitsMachine(entry))) found.push(`${name} is not installed`);
    } else if (present.version !== entry.version || present.integrity !== entry.integrity) {
      found.push(`${name} is ${present.version}, not ${entry.version}`);
    } else if (!existsSync(join(root, path, 'package.json'))) {
      found.push(`${name} is incomplete`);
    }
  }
  for (const path of Object.keys(installed.packages)) {
    if (wanted.packages[path] === undefined) found.push(`${path.slice('node_modules/'.length)} is not wanted any more`);
  }
  return found;
}

function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

const fitsMachine = (entry) =>
  fits(entry.os, process.platform) && fits(entry.cpu, process.arch) && (entry.libc === undefined || fits(entry.libc, libc()));

/** `rules` as in package.json: names, each perhaps with a ! before it; as a list or alone. */
function fits(rules, value) {
  if (rules === undefined) return true;
  const list = [].concat(rules);
  if (list.includes(`!${value}`)) return false;
  const positive = list.filter((rule) => !rule.startsWith('!'));
  return positive.length === 0 || positive.includes('any') || positive.includes(value);
}

function libc() {
  if (process.platform !== 'linux') return undefined;
  return process.report.getReport().header.glibcVersionRuntime ? 'glibc' : 'musl';
}

/** The Node that the scripts in package.json find first must be the right one, and run. */
function checkNode() {
  const pinned = join(root, 'node_modules', '.bin', 'node');
  const node = existsSync(pinned) ? pinned : 'node';
  const { stdout, error } = spawnSync(node, ['--version'], { encoding: 'utf8' });
  const version = (stdout || '').trim();
  if (version.startsWith(`v${requiredNodeMajor}.`)) return 0;
  const what = version === '' ? `does not run${error ? `: ${error.message}` : ''}` : `is ${version}`;
  process.stderr.write(
    `install: Node ${requiredNodeMajor} is needed, and ${node} ${what}.\n` +
      `No package brings Node for ${process.platform} ${process.arch}${libc() === 'musl' ? ' with musl' : ''}: install it yourself.\n`,
  );
  return 1;
}

// --- npm

/** Resolves to npm's exit code, or the name of the signal that ended it. */
function npmCi(held) {
  // The npm that runs this, under the Node that runs it: the one in node_modules is about to be replaced.
  const { npm_execpath: npm, npm_node_execpath: node } = process.env;
  const isNpm = npm !== undefined && /npm-cli\.[cm]?js$/.test(npm);
  const args = ['ci', '--ignore-scripts', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'];
  const child = spawn(isNpm ? node || process.execPath : 'npm', isNpm ? [npm, ...args] : args, {
    cwd: root,
    stdio: ['ignore', 2, 2],
    env: { ...process.env, PATH: pathWithoutOurs() },
  });
  if (child.pid !== undefined) held.alsoBy(child.pid);
  // Ctrl-C reaches npm by itself; what only this process is told is passed on. Then this waits, to release the lock after npm.
  const passOn = (signal) => child.kill(signal);
  process.on('SIGINT', () => {});
  process.on('SIGTERM', passOn);
  process.on('SIGHUP', passOn);
  return new Promise((done, fail) => {
    child.once('error', (error) => fail(new Error(`npm cannot be run: ${error.message}`)));
    child.once('exit', (code, signal) => done(signal === null ? code : signal));
  });
}

const pathWithoutOurs = () =>
  (process.env.PATH || '')
    .split(':')
    .filter((folder) => folder !== join(root, 'node_modules', '.bin'))
    .join(':');

function advice() {
  return (
    'Its message is above. It needs the registry (or a filled cache), and the right to write here: ' +
    'after an installation by root, remove node_modules as root.'
  );
}

// --- one at a time

/**
 * Waits for its turn. A holder that died is noticed, by its id and, where that is told, its start; npm holds the lock, too, and may
 * outlive the process that started it.
 */
async function lock() {
  const deadline = Date.now() + waitLimitMs;
  let told = false;
  for (;;) {
    let mine = JSON.stringify([holderOf(process.pid)]);
    if (tryWrite(mine)) {
      return {
        alsoBy(pid) {
          mine = JSON.stringify([holderOf(process.pid), holderOf(pid)]);
          writeFileSync(lockFile, mine);
        },
        release() {
          if (read(lockFile) === mine) unlinkSync(lockFile);
        },
      };
    }
    const holder = read(lockFile);
    if (holder === undefined) continue;
    if (isDead(holder)) {
      takeAway(holder);
      continue;
    }
    if (!told) process.stderr.write('install: waiting for another process that installs the dependencies\n');
    told = true;
    if (Date.now() > deadline) throw new Error(`another process has been installing for too long: ${holder} (${lockFile})`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

function tryWrite(text) {
  try {
    writeFileSync(lockFile, text, { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw new Error(`the dependencies must be installed, and ${root} cannot be written to: ${error.message}`, { cause: error });
  }
}

function read(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

const holderOf = (pid) => ({ pid, start: startOf(pid) });

/** Whether every holder that a lock names is dead. */
function isDead(text) {
  let holders;
  try {
    holders = [].concat(JSON.parse(text));
  } catch {
    // Just being written, or never finished.
    return ageMs(lockFile) > unfinishedMs;
  }
  return !holders.some(isAlive);
}

function isAlive({ pid, start }) {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error.code === 'EPERM';
  }
  return start === startOf(pid);
}

function ageMs(file) {
  try {
    return Date.now() - statSync(file).mtimeMs;
  } catch {
    return 0;
  }
}

/** Start of a process in clock ticks since the machine's, or null where it is not told (not Linux). */
function startOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return null;
  }
}

// Moved aside first: if it has become someone's in the meantime, it is put back.
function takeAway(holder) {
  const aside = `${lockFile}.old.${process.pid}`;
  try {
    renameSync(lockFile, aside);
  } catch (error) {
    if (error.code === 'ENOENT') return;
    throw error;
  }
  const taken = read(aside);
  if (taken !== holder) tryWrite(taken);
  unlinkSync(aside);
}

main().then(
  (code) => process.exit(code),
  (error) => {
    process.stderr.write(`install: ${error.message}\n`);
    process.exit(1);
  },
);
