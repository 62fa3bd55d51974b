// Small TypeScript programs as processes of their own, for tests of what happens between processes: locks, signals, crashes.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import path from 'node:path';

export interface ProgramOptions {
  environment?: NodeJS.ProcessEnv;
  user?: { uid: number; gid: number };
}

const repository = path.resolve(import.meta.dirname, '../..');

export class Program implements AsyncDisposable {
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  /** Everything printed so far. */
  output = '';
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;

  /** Runs `source`, a module in TypeScript; `$src/` in its imports is this repository's src. */
  constructor(source: string, args: readonly string[], { environment, user }: ProgramOptions = {}) {
    const code = source.replaceAll('$src/', `file://${encodeURI(repository)}/src/`);
    this.child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', code, '--', ...args], {
      cwd: repository,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: environment ?? process.env,
      ...user,
    });
    this.exited = new Promise((resolve) => this.child.once('close', (exitCode, signal) => resolve({ code: exitCode, signal })));
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text: string) => (this.output += text));
    }
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Waits until it has printed the text, at most 30 s. */
  async says(text: string): Promise<void> {
    const deadline = Date.now() + 30_000;
    while (!this.output.includes(text)) {
      if (!this.running) throw new Error(`the program ended before it said "${text}":\n${this.output}`);
      if (Date.now() > deadline) throw new Error(`the program did not say "${text}" within 30 s:\n${this.output}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.child.kill(signal);
    await this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) await this.kill();
  }
}
