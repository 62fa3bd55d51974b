/**
 * The service cannot start (or not like this), and an operator can mend it: `message` says what is wrong and what to do. It is
 * shown as it is, without a stack.
 */
export class StartError extends Error {
  override readonly name = 'StartError';
}
