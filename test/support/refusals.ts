// What a refusal must be: the caller's fault, on `uri`, with a message that names the thing and ends in what to do.
import { expect } from 'chai';
import { DomainError } from '../../src/platform/errors.ts';

/** The message of the refusal that `work` ends with. */
export async function refusalOf(work: Promise<unknown> | (() => unknown)): Promise<string> {
  let error: unknown;
  try {
    await (typeof work === 'function' ? work() : work);
  } catch (caught) {
    error = caught;
  }
  if (!(error instanceof DomainError))
    return expect.fail(`not a refusal: ${error instanceof Error ? error.stack : String(error)}`);
  expect(error.code).to.equal('INVALID_ARGUMENT');
  expect(error.details).to.have.length(1);
  const [detail] = error.details;
  if (detail?.kind !== 'badRequest') return expect.fail('without the field');
  expect(detail.violations.map(({ field }) => field)).to.deep.equal(['uri']);
  // A message is one line of printable characters and ends in a remedy, which is a sentence or a command.
  expect(error.message).to.match(/^uri: [\x20-\x7e…]+$/);
  expect(error.message.length).to.be.below(500);
  expect(error.message).to.match(/[.:] [A-Z`][^.]*( [^.]*)+/);
  return error.message;
}
