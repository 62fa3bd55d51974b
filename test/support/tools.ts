// Command line tools as tests run them: with a time limit that only catches hangs, and with all that they said when they fail.
import { execFile, execFileSync } from 'node:child_process';

export interface ToolAnswer {
  code: number;
  stdout: string;
  stderr: string;
}

const limitMs = 50_000;
/** Bindings of the system's tools belong to the system's Python, whatever else stands in the path. */
const environment = { ...process.env, PATH: `/usr/bin:${process.env['PATH'] ?? ''}`, LC_ALL: 'C' };

/** Runs to the end and answers how it went, whatever that is. @throws Error when it cannot be started or takes too long. */
export function answerOf(tool: string, ...args: string[]): Promise<ToolAnswer> {
  return new Promise((resolve, reject) => {
    const options = { timeout: limitMs, killSignal: 'SIGKILL', maxBuffer: 2 ** 26, env: environment } as const;
    execFile(tool, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      if (typeof code === 'number') resolve({ code, stdout, stderr });
      else reject(new Error(`${tool} ${args.join(' ')}: ${error?.message}\n${stdout}${stderr}`));
    });
  });
}

/** Runs and answers what it printed. @throws Error when it fails. */
export async function run(tool: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await answerOf(tool, ...args);
  if (code !== 0) throw new Error(`${tool} ${args.join(' ')}: exit ${code}\n${stdout}${stderr}`);
  return stdout;
}

/** Skips, loudly, where a tool does not run. `probe`: arguments with which it exits at once, and well. */
export function requireTool(context: Mocha.Context, tool: string, packages: string, ...probe: string[]): void {
  try {
    execFileSync(tool, probe.length === 0 ? ['--version'] : probe, { stdio: 'ignore', timeout: 20_000, env: environment });
  } catch {
    console.warn(`SKIPPED: ${tool} does not run here (Debian: ${packages})`);
    context.skip();
  }
}
