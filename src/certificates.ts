// Which certificate the TLS port shows: a given one, or one of the installation's own authority, which all processes share through the
// database. The server certificate is each process's own; it is renewed well before it ends.
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import type { EntityManager } from '@mikro-orm/postgresql';
import type { Config } from './config.ts';
import { serverSecret } from './iam/server-secrets.ts';
import { replaceFile } from './platform/replace-file.ts';
import { StartError } from './platform/start-error.ts';
import type { ServerCertificate } from './transport/listen.ts';
import { createCertificateAuthority, issueServerCertificate } from './transport/tls.ts';

/** Issued certificates last 397 days; a process that runs for so long gets a new one in time. */
const renewIntervalMs = 180 * 24 * 60 * 60 * 1000;
/** Timers of Node reach 24.8 days. */
const timerIntervalMs = 24 * 60 * 60 * 1000;

export interface Certificates {
  readonly current: ServerCertificate;
  /** Calls `use` with a new certificate in good time, until it is disposed of. */
  keepFresh(use: (certificate: ServerCertificate) => void): Disposable;
}

/** Leaves the authority that clients trust in `caFile`. @throws StartError when a given certificate cannot be read. */
export async function openCertificates(config: Config, em: EntityManager, caFile: string): Promise<Certificates> {
  const given = await readGiven(config);
  if (given !== undefined) {
    await replaceFile(caFile, given.certificate, 0o644);
    return { current: given, keepFresh: () => ({ [Symbol.dispose]() {} }) };
  }
  const secret = await serverSecret(em, 'tls-authority', async () => JSON.stringify(await createCertificateAuthority()));
  const authority = JSON.parse(secret) as ServerCertificate;
  const names = [...new Set(['localhost', hostname(), '127.0.0.1', '::1', ...config.tls.names])];
  await replaceFile(caFile, authority.certificate, 0o644);
  return {
    current: await issueServerCertificate(authority, names),
    keepFresh(use) {
      let issuedAt = Date.now();
      const timer = setInterval(() => {
        if (Date.now() - issuedAt < renewIntervalMs) return;
        void issueServerCertificate(authority, names).then((certificate) => {
          use(certificate);
          issuedAt = Date.now();
        });
      }, timerIntervalMs);
      timer.unref();
      return { [Symbol.dispose]: () => clearInterval(timer) };
    },
  };
}

async function readGiven({ tls: { certificateFile, keyFile } }: Config): Promise<ServerCertificate | undefined> {
  if (certificateFile === undefined || keyFile === undefined) return undefined;
  try {
    return { certificate: await readFile(certificateFile, 'utf8'), key: await readFile(keyFile, 'utf8') };
  } catch (error) {
    throw new StartError(`OBRAZ_TLS_CERT_FILE, OBRAZ_TLS_KEY_FILE: ${(error as Error).message}`, { cause: error });
  }
}
