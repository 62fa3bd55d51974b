// What the settings of imports mean: read once, at the start, so that a wrong one is told then and not by the first import.
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Config } from './config.ts';
import { StartError } from './platform/start-error.ts';
import { loopbackExceptions, parseProxyRules, type ProxyRules } from './sources/proxy-rules.ts';
import { parseImportAllow, type UrlPolicyRules } from './sources/url-policy.ts';

/** @throws StartError, as all of these do. */
export function readImportRules(config: Config): UrlPolicyRules {
  try {
    return { allow: parseImportAllow(config.import.allow), publicPorts: config.import.publicPorts };
  } catch (error) {
    throw new StartError(`OBRAZ_IMPORT_ALLOW: ${(error as Error).message}`, { cause: error });
  }
}

/** Undefined when there is no proxy. */
export function readProxyRules(config: Config): ProxyRules | undefined {
  const { httpProxy, httpsProxy, noProxy = '' } = config.import.proxies;
  if (httpProxy === undefined && httpsProxy === undefined) return undefined;
  try {
    return parseProxyRules({ httpProxy, httpsProxy, noProxy: `${noProxy},${loopbackExceptions}` });
  } catch (error) {
    throw new StartError((error as Error).message, { cause: error });
  }
}

/** The certificates in OBRAZ_IMPORT_CA_FILE in PEM; undefined when there is no such file. */
export async function readAuthorities(config: Config): Promise<string | undefined> {
  const { caFile } = config.import;
  if (caFile === undefined) return undefined;
  try {
    const text = await readFile(caFile, 'utf8');
    const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
    if (blocks.length === 0) throw new Error(`${caFile} holds no certificate in PEM`);
    return blocks.map((block) => new X509Certificate(block).toString()).join('');
  } catch (error) {
    throw new StartError(`OBRAZ_IMPORT_CA_FILE: ${(error as Error).message}`, { cause: error });
  }
}
