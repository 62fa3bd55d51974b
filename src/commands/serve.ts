// `obraz serve`: the service from start to signal. What a person sees is here; how it is put together is app.ts.
import type { App } from '../app.ts';
import { type Config, readConfig } from '../config.ts';
import { defineCommand } from './command.ts';

const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export const serve = defineCommand({
  summary: 'run the service',
  description: `Settings come from the environment: see README. It runs until SIGINT or SIGTERM, and ends in order: calls, jobs, PostgreSQL.`,
  run: ({ environment }) => runService(readConfig(environment)),
});

/** Runs until a stop signal; resolves when everything has ended, PostgreSQL last. */
async function runService(config: Config): Promise<void> {
  const stop = new AbortController();
  // The first signal asks for an orderly stop. Ctrl-C reaches the whole group, so npm and a shell may repeat it: repeats change nothing.
  for (const name of stopSignals) process.on(name, () => stop.abort(name));
  const { startApp } = await import('../app.ts');
  const starting = startApp(config, stop.signal);
  // Stopped before it was ready: what had been started is gone again, and that is no failure.
  await starting.catch(() => {});
  if (stop.signal.aborted) {
    await starting.then((started) => started[Symbol.asyncDispose]()).catch(() => {});
    return;
  }
  await using app = await starting;
  process.stdout.write(banner(app));
  process.stdout.write('obraz is ready\n');
  void app.failed.then((error) => stop.abort(error));
  await new Promise<void>((resolve) => {
    if (stop.signal.aborted) resolve();
    else stop.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  if (stop.signal.reason instanceof Error) throw stop.signal.reason;
  process.stdout.write(`obraz is stopping (${String(stop.signal.reason)})\n`);
}

function banner({ addresses, dataDirectory, folderId }: App): string {
  const lines = [
    ...(addresses.grpc === undefined ? [] : [`  gRPC         ${addresses.grpc}  (no TLS)`]),
    ...(addresses.tls === undefined ? [] : [`  gRPC, TLS    ${addresses.tls}  (authority: ${dataDirectory}/ca.pem)`]),
    `  HTTP         ${addresses.http}  (/healthz, /readyz, /metrics)`,
    ...(addresses.nbd === undefined ? [] : [`  NBD          ${addresses.nbd}  (exports: obraz nbd attach <id>)`]),
    ...(addresses.nbd_socket === undefined ? [] : [`  NBD, local   ${addresses.nbd_socket}`]),
    `  data         ${dataDirectory}`,
  ];
  if (addresses.grpc !== undefined) {
    const token = shellQuote(`${dataDirectory}/admin.token`);
    lines.push(
      '',
      'Try it:',
      `  grpcurl -plaintext -H "authorization: Bearer $(cat ${token})" \\`,
      `    -d '{"folder_id": "${folderId}"}' ${addresses.grpc} yandex.cloud.compute.v1.ImageService/List`,
    );
  }
  return `\n${lines.join('\n')}\n\n`;
}

const shellQuote = (text: string): string => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
