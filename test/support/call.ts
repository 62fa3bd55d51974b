// A call as methods see it, without a transport.
import type { EntityManager } from '@mikro-orm/postgresql';
import { expect } from 'chai';
import type { AccessRules } from '../../src/iam/access-control.ts';
import type { Call, Subject } from '../../src/iam/call.ts';
import { type Code, DomainError } from '../../src/platform/errors.ts';

export const someAccount: Subject = { id: 'aje00000000000000000', type: 'serviceAccount' };

/** For tests that are about other things than who may do what. */
export const everybodyMay: AccessRules = { isAllowed: () => true, isActive: async () => true, forget() {} };

/** Pass `subject: undefined` for a caller without a token. */
export const testCall = (em: EntityManager, overrides: Partial<Call> = {}): Call => ({
  method: 'test.TestService/Test',
  requestId: 'test-request',
  subject: someAccount,
  em,
  access: everybodyMay,
  grants: [],
  signal: new AbortController().signal,
  idempotencyKey: undefined,
  requestBytes: () => new Uint8Array(),
  authority: '127.0.0.1:50051',
  secure: false,
  setHeader: () => {},
  ...overrides,
});

/** Waits for `work` to be refused with a code (and a text), and answers the error. */
export async function expectRefusal(work: Promise<unknown>, code: Code, message?: RegExp | string): Promise<DomainError> {
  const outcome = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(outcome instanceof DomainError)) throw outcome ?? new Error('nothing was refused');
  expect(outcome.code).to.equal(code);
  if (message instanceof RegExp) expect(outcome.message).to.match(message);
  else if (message !== undefined) expect(outcome.message).to.equal(message);
  return outcome;
}
