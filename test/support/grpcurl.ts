// grpcurl as a client that we did not write: it knows the service by reflection alone.
import { execFile, spawnSync } from 'node:child_process';

export interface GrpcurlAnswer {
  /** 0, or 64 + the gRPC code, or 1 for what is wrong before a call. */
  code: number;
  stdout: string;
  stderr: string;
}

/** Skips the tests of a suite, loudly, on a machine without grpcurl: `before(function () { requireGrpcurl(this); })`. */
export function requireGrpcurl(context: Mocha.Context): void {
  if (spawnSync('grpcurl', ['--version'], { timeout: 10_000 }).status === 0) return;
  console.warn('SKIPPED: grpcurl is not installed (https://github.com/fullstorydev/grpcurl); nothing was called with it');
  context.skip();
}

/** Runs grpcurl, for at most 30 s. It is not an error when grpcurl says that a call failed. */
export const grpcurl = (...args: string[]): Promise<GrpcurlAnswer> => runTool('grpcurl', ['-max-time', '20', ...args]);

/** Runs a line of shell. */
export const shell = (line: string, cwd: string): Promise<GrpcurlAnswer> => runTool('/bin/sh', ['-c', line], cwd);

const runTool = (tool: string, args: string[], cwd?: string): Promise<GrpcurlAnswer> =>
  new Promise((resolve, reject) => {
    execFile(tool, args, { cwd, timeout: 30_000, maxBuffer: 16 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== 'number') reject(error);
      else resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
