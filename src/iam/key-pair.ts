// Making the key pairs of service accounts. The private half exists in the answer of the call that made it (or the key file of the first
// start) and nowhere else.
import { generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';
import { DomainError } from '../platform/errors.ts';
import { Semaphore } from '../platform/semaphore.ts';
import type { KeyAlgorithm } from './authorized-key.entity.ts';

const modulusLengths: Readonly<Record<KeyAlgorithm, number>> = { RSA_2048: 2048, RSA_4096: 4096 };

// Searching for primes takes a thread of the pool that files share for a second and more: one at a time, and no long line.
const turns = new Semaphore(1);
const mostWaiting = 16;
let waiting = 0;

export interface KeyPair {
  /** SubjectPublicKeyInfo, PEM. */
  publicKey: string;
  /** PKCS #8, PEM. A secret. */
  privateKey: string;
}

/** @throws DomainError RESOURCE_EXHAUSTED when many wait already; signal.reason when aborted while waiting. */
export async function makeKeyPair(algorithm: KeyAlgorithm, signal?: AbortSignal): Promise<KeyPair> {
  if (waiting >= mostWaiting) {
    throw new DomainError('RESOURCE_EXHAUSTED', 'Many keys are being made at once: try again in a few seconds', [
      { kind: 'retryInfo', retryDelayMs: 5_000 },
    ]);
  }
  waiting += 1;
  const done = await turns.acquire(signal).finally(() => {
    waiting -= 1;
  });
  try {
    return await promisify(generateKeyPair)('rsa', {
      modulusLength: modulusLengths[algorithm],
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    });
  } finally {
    done();
  }
}
