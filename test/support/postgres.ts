// Databases for tests: a fresh one per call, on one cluster per test process, which is started at the first call and stopped by a root
// hook of mocha, or, when the process ends otherwise (kill -9 too), by the cluster's watcher; what it leaves on the disk is removed by
// a shell that waits for the same end. With OBRAZ_TEST_DATABASE_URL that server is used instead (its role needs CREATEDB).
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from 'pg';
import { locationFile, outsideFolder } from '../../src/db/embedded/cluster-home.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/db/embedded/embedded-postgres.ts';

export interface TestDatabase {
  /** For node-postgres and MikroORM. */
  url: string;
  /** Drops the database and whoever is still connected to it. */
  dispose(): Promise<void>;
}

interface Server extends AsyncDisposable {
  url: string;
  /** Undefined when OBRAZ_TEST_DATABASE_URL names the server. */
  embedded: EmbeddedPostgres | undefined;
}

let starting: Promise<Server> | undefined;

const server = (): Promise<Server> => (starting ??= process.env['OBRAZ_TEST_DATABASE_URL'] ? given() : ownCluster());

/** A new, empty database: UTF-8, ordered by byte. */
export async function testDatabase(): Promise<TestDatabase> {
  const { url } = await server();
  const name = `test_${randomBytes(8).toString('hex')}`;
  await statement(
    url,
    `create database ${name} template template0 encoding 'UTF8' locale_provider builtin builtin_locale 'C.UTF-8' locale 'C'`,
  );
  const own = new URL(url);
  own.pathname = `/${name}`;
  return { url: own.href, dispose: () => dropDatabase(url, name) };
}

/** The cluster that `testDatabase` uses, to restart it under load; undefined when it is not ours. */
export const testCluster = async (): Promise<EmbeddedPostgres | undefined> => (await server()).embedded;

/** Stops the cluster. Tests need not call it; scripts that use testDatabase do. */
export async function stopTestCluster(): Promise<void> {
  const started = starting;
  starting = undefined;
  await (await started)?.[Symbol.asyncDispose]();
}

// Registered when a spec file imports this one; there is no mocha in scripts.
if (typeof after === 'function') after('stop the test cluster', stopTestCluster);

async function given(): Promise<Server> {
  return { url: process.env['OBRAZ_TEST_DATABASE_URL']!, embedded: undefined, async [Symbol.asyncDispose]() {} };
}

async function ownCluster(): Promise<Server> {
  const folder = await mkdtemp(path.join(tmpdir(), 'obraz-test-'));
  const sweeper = sweepAfterwards(folder);
  const embedded = await startEmbeddedPostgres({ dataDir: folder, durable: false });
  return {
    url: embedded.url,
    embedded,
    async [Symbol.asyncDispose]() {
      await embedded[Symbol.asyncDispose]();
      await removeDataFolder(folder);
      sweeper.stdin!.end('\n');
    },
  };
}

/** Removes a data folder and the home of its cluster, which lies elsewhere when root's tests run below a closed folder. */
export async function removeDataFolder(folder: string): Promise<void> {
  const outside = (await readFile(locationFile(folder), 'utf8').catch(() => '')).trim();
  if (path.dirname(outside) === outsideFolder) await rm(outside, { recursive: true, force: true });
  await rm(folder, { recursive: true, force: true, maxRetries: 3 });
}

// Waits, at the end of the pipe from this process, until the server has gone (30 s at most), and removes the folder.
const sweepScript =
  'read -r _ && exit; i=0; while [ -e "$1/postgres/data/postmaster.pid" ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done; rm -rf "$1"';

function sweepAfterwards(folder: string): ChildProcess {
  const sweeper = spawn('/bin/sh', ['-c', sweepScript, 'obraz-sweep', folder], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  sweeper.stdin.on('error', () => {});
  sweeper.unref();
  (sweeper.stdin as unknown as { unref(): void }).unref();
  return sweeper;
}

/** PostgreSQL's own cleaning up may be in the database, and is not ours to end: it is waited for. What is left then goes with the cluster. */
async function dropDatabase(url: string, name: string): Promise<void> {
  const insufficientPrivilege = '42501';
  for (let attempt = 0; attempt < 50; attempt += 1) {
    try {
      await statement(url, `drop database if exists ${name} with (force)`);
      return;
    } catch (error) {
      if ((error as { code?: string }).code !== insufficientPrivilege) throw error;
      await pause(100);
    }
  }
}

async function statement(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
