// A virtual PC in software emulation, as a child process: what it says on its serial console, and its end.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { isThere } from './bootable-image.ts';

const emulator = 'qemu-system-x86_64';
/** For machines that are slow and busy with other things. */
const limitMs = 300_000;

/** Skips the tests of a suite, loudly, where there is no emulator. */
export function requireEmulator(context: Mocha.Context): void {
  if (isThere(emulator)) return;
  console.warn(`SKIPPED: ${emulator} is not installed (Debian: qemu-system-x86); no machine was booted`);
  context.skip();
}

export class Machine implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  /** What the console has shown, and what the emulator itself had to say. */
  output = '';
  readonly #exited: Promise<number | null>;

  /** Boots from one disk: a file or a URI, raw. */
  constructor(disk: string) {
    const options = [
      ['-accel', 'tcg', '-cpu', 'max', '-m', '256', '-nodefaults', '-no-reboot'],
      ['-display', 'none', '-serial', 'stdio', '-monitor', 'none'],
      ['-drive', `file=${disk.replaceAll(',', ',,')},format=raw,if=virtio,discard=unmap`],
    ];
    this.#child = spawn(emulator, options.flat(), { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#exited = new Promise((resolve) => {
      this.#child.once('close', (code) => resolve(code));
      this.#child.once('error', (error) => {
        this.output += error.message;
        resolve(null);
      });
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text: string) => (this.output += text));
    }
  }

  /** Until it has said that on a line of its own. @throws Error when it goes off before, or not within minutes. */
  async says(line: RegExp): Promise<RegExpExecArray> {
    const deadline = Date.now() + limitMs;
    for (;;) {
      const isOver = this.#child.exitCode !== null || this.#child.signalCode !== null;
      const found = line.exec(this.output);
      if (found !== null) return found;
      if (isOver) throw new Error(`the machine went off before it said ${line}:\n${this.output}`);
      if (Date.now() > deadline) throw new Error(`the machine did not say ${line} in time:\n${this.output}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Until it has switched itself off. */
  async off(): Promise<void> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), limitMs);
    const code = await this.#exited;
    clearTimeout(timer);
    if (code !== 0) throw new Error(`the emulator ended with ${code}:\n${this.output}`);
  }

  /** As when its power fails. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}
