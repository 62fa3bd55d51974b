// nginx on a free port of the loopback, serving a folder.
import { spawn } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface FolderServer extends AsyncDisposable {
  url: string;
  /** Bytes of bodies that it has sent so far. */
  bytesSent(): Promise<number>;
}

export async function serveFolder(directory: string): Promise<FolderServer> {
  const port = await freePort();
  const home = await mkdtemp(path.join(tmpdir(), 'obraz-nginx-'));
  await mkdir(path.join(home, 'logs'));
  await chmod(home, 0o755);
  await chmod(directory, 0o755);
  await writeFile(
    path.join(home, 'nginx.conf'),
    `daemon off; worker_processes 1; pid ${home}/pid; error_log ${home}/logs/error.log; events { worker_connections 256; }
     http { log_format bytes '$body_bytes_sent'; access_log ${home}/logs/bytes bytes; sendfile on; tcp_nopush on; client_body_temp_path ${home}/b; proxy_temp_path ${home}/p; fastcgi_temp_path ${home}/f;
       uwsgi_temp_path ${home}/u; scgi_temp_path ${home}/s; server { listen 127.0.0.1:${port}; root ${directory}; } }`,
  );
  const child = spawn('nginx', ['-p', home, '-c', path.join(home, 'nginx.conf')], { stdio: 'ignore' });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  for (let attempt = 0; !(await accepts(port)); attempt += 1) {
    if (attempt > 200 || child.exitCode !== null) throw new Error('nginx did not start');
    await sleep(20);
  }
  return {
    url: `http://127.0.0.1:${port}`,
    async bytesSent() {
      const lines = (await readFile(path.join(home, 'logs/bytes'), 'utf8')).split('\n');
      return lines.reduce((sum, line) => sum + Number(line), 0);
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await exited;
      await rm(home, { recursive: true, force: true });
    },
  };
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() =>
        address === null || typeof address === 'string' ? reject(new Error('no port')) : resolve(address.port),
      );
    });
  });

const accepts = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => (socket.destroy(), resolve(true)));
    socket.once('error', () => resolve(false));
  });
