// A command of the command line, run to its end: `await command({ dataDirectory, environment }, 'gc', '--dry-run')`.
import { spawn } from 'node:child_process';
import path from 'node:path';

const repository = path.resolve(import.meta.dirname, '../..');
/** Only ends commands that hang. */
const limitMs = 120_000;

export interface CommandEnded {
  status: number | null;
  out: string;
  /** Without the log's lines. */
  err: string;
}

export async function command(
  { dataDirectory, environment = {} }: { dataDirectory: string; environment?: Record<string, string> },
  ...words: string[]
): Promise<CommandEnded> {
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('OBRAZ_') && name !== 'DATABASE_URL'),
  );
  const child = spawn(process.execPath, ['src/main.ts', ...words], {
    cwd: repository,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...inherited, OBRAZ_DATA_DIR: dataDirectory, ...environment },
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearTimeout(timer);
  return { status, out, err: err.replaceAll(/^\{.*\}\n/gm, '') };
}
