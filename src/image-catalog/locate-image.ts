// From an entry of the catalog to the image that is published now: its file, its digest and its day. The checksum file is fetched as
// imports are, under the same URL policy; of the image only the head is asked for.
import type { DigestAlgorithm } from '../sources/source-uri.ts';
import { readThrough } from '../sources/download.ts';
import { type ProbeOptions, probeSource } from '../sources/probe.ts';
import type { UrlPolicy } from '../sources/url-policy.ts';
import { failedPrecondition } from '../platform/errors.ts';
import type { CatalogEntry } from './catalog.ts';
import { findDigest, parseChecksums } from './checksum-file.ts';

/** How sources are reached. */
export interface SourceAccess {
  policy: UrlPolicy;
  options: ProbeOptions;
}

export interface LocatedImage {
  /** Without the digest. */
  url: string;
  algorithm: DigestAlgorithm;
  /** Lower case. */
  hex: string;
  /** Of the build: when the image was last modified or, where its server does not tell, the checksum file; else today. */
  day: Date;
}

/** Sites with every architecture and flavour of a release have some 50 KiB. */
const maxChecksumBytes = 1024 * 1024;

/**
 * @throws DomainError when the site does not have what the entry says, or the policy forbids it; TransientError when a later try may work;
 * the signal's reason.
 */
export async function locateImage(entry: CatalogEntry, access: SourceAccess): Promise<LocatedImage> {
  const { checksums } = entry;
  const { text, lastModified } = await fetchText(checksums.url, access);
  const nameAt = entry.image.lastIndexOf('/') + 1;
  const { name, hex } = findDigest(parseChecksums(text, checksums), entry.image.slice(nameAt));
  const url = `${entry.image.slice(0, nameAt)}${name}`;
  const image = await probeSource(url, access.policy, access.options);
  const day = dayOf(image.lastModified) ?? dayOf(lastModified) ?? new Date();
  return { url, algorithm: checksums.algorithm, hex, day };
}

async function fetchText(url: string, { policy, options }: SourceAccess) {
  const info = await probeSource(url, policy, options);
  const bytes = Buffer.alloc(maxChecksumBytes);
  const sink = {
    async write(part: Uint8Array, position: number): Promise<void> {
      bytes.set(part, position);
    },
  };
  const { timeouts, retry, signal } = options;
  const length = await readThrough(info, sink, { maxBytes: maxChecksumBytes, policy, timeouts, retry, signal });
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length)), lastModified: info.lastModified };
  } catch {
    throw failedPrecondition('The checksum file cannot be used: it is not text');
  }
}

const dayMs = 24 * 60 * 60 * 1000;

/** Undefined for what cannot be the day of a build: clocks of servers are wrong, too. */
function dayOf(lastModified: string | undefined): Date | undefined {
  const ms = Date.parse(lastModified ?? '');
  return ms >= Date.UTC(2000) && ms <= Date.now() + dayMs ? new Date(ms) : undefined;
}
