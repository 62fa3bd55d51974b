// Which certificate the TLS port shows: a given one, or one of the installation's own authority, which all processes share through the
// database. The server certificate is each process's own, and renewed well before it ends.
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import type { EntityManager } from '@mikro-orm/postgresql';
import type { Config } from './config.ts';
import { serverSecret } from './iam/server-secrets.ts';
import type { Log } from './platform/log.ts';
import { replaceFile } from './platform/replace-file.ts';
import { StartError } from './platform/start-error.ts';
import { defaultCertificateNames } from './transport/certificate-names.ts';
import { CertificateRenewal } from './transport/certificate-renewal.ts';
import type { ServerCertificate } from './transport/listen.ts';
import { type CertificateAuthority, createCertificateAuthority } from './transport/tls.ts';

export interface Certificates extends Disposable {
  readonly current: ServerCertificate;
  /** Hears of every certificate that replaces the current one. */
  onRenewed: (certificate: ServerCertificate) => void;
}

/** Leaves what clients have to trust in `caFile`. @throws StartError when settings are wrong or a file cannot be read. */
export async function openCertificates(config: Config, em: EntityManager, caFile: string, log: Log): Promise<Certificates> {
  const given = await readGiven(config);
  if (given !== undefined) {
    await replaceFile(caFile, given.certificate, 0o644);
    return { current: given, onRenewed: () => {}, [Symbol.dispose]: () => {} };
  }
  const secret = await serverSecret(em, 'tls-authority', async () => JSON.stringify(await createCertificateAuthority()));
  const authority = JSON.parse(secret) as CertificateAuthority;
  await replaceFile(caFile, authority.certificate, 0o644);
  const certificates = { onRenewed: (_certificate: ServerCertificate): void => {} };
  const onRenewed = (certificate: ServerCertificate): void => certificates.onRenewed(certificate);
  try {
    const names = defaultCertificateNames(hostname(), config.tls.names);
    const renewal = await CertificateRenewal.start({ authority, names, onRenewed, log });
    return Object.assign(certificates, { current: renewal.certificate, [Symbol.dispose]: () => renewal[Symbol.dispose]() });
  } catch (error) {
    if (error instanceof RangeError) throw new StartError(`OBRAZ_TLS_NAMES: ${error.message}`, { cause: error });
    throw error;
  }
}

async function readGiven({ tls: { certificateFile, keyFile } }: Config): Promise<ServerCertificate | undefined> {
  if (certificateFile === undefined || keyFile === undefined) return undefined;
  try {
    return { certificate: await readFile(certificateFile, 'utf8'), key: await readFile(keyFile, 'utf8') };
  } catch (error) {
    throw new StartError(`OBRAZ_TLS_CERT_FILE, OBRAZ_TLS_KEY_FILE: ${(error as Error).message}`, { cause: error });
  }
}
