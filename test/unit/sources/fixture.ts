// What the tests of sources share.
import { expect } from 'chai';
import { DomainError, TransientError } from '../../../src/platform/errors.ts';
import type { ProbeOptions } from '../../../src/sources/probe.ts';
import { parseImportAllow, UrlPolicy, type UrlPolicyOptions } from '../../../src/sources/url-policy.ts';

/** Lets imports reach this machine, like `OBRAZ_IMPORT_ALLOW=<allow>`. */
export const policyFor = (allow = '127.0.0.1, localhost', options: UrlPolicyOptions = {}): UrlPolicy =>
  new UrlPolicy({ allow: parseImportAllow(allow), publicPorts: [80, 443] }, options);

/** Patience for tests: every rule as in earnest, but for the times. */
export const impatient = {
  timeouts: { connectMs: 2000, responseMs: 2000, stallMs: 2000 },
  retry: { firstPauseMs: 1, maxPauseMs: 4, unreachableMs: 30 },
} satisfies ProbeOptions;

/** Bytes that differ everywhere: any shifted, missing or repeated part shows. */
export function patternBytes(lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  let state = 0x9e3779b9;
  for (let index = 0; index < lengthBytes; index += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[index] = state;
  }
  return bytes;
}

/** Waits for the promise to fail and answers its error. */
export async function failure(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error('it did not fail');
}

/** Expects a final failure: its gRPC code, and words of its text. */
export async function expectDomainError(promise: Promise<unknown>, code: string, text: string | RegExp): Promise<DomainError> {
  const error = await failure(promise);
  expect(error, error.stack).to.be.instanceOf(DomainError);
  expect((error as DomainError).code).to.equal(code);
  expect(error.message).to.match(typeof text === 'string' ? new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')) : text);
  return error as DomainError;
}

export async function expectTransientError(promise: Promise<unknown>, text: string | RegExp): Promise<TransientError> {
  const error = await failure(promise);
  expect(error, error.stack).to.be.instanceOf(TransientError);
  if (typeof text === 'string') expect(error.message).to.contain(text);
  else expect(error.message).to.match(text);
  return error as TransientError;
}

export const sameBytes = (one: Uint8Array, other: Uint8Array): boolean => Buffer.compare(one, other) === 0;
