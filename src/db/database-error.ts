// Which failures of a statement are the world's: PostgreSQL restarts, connections break, locks and bounds are waited out. The
// transaction was rolled back, or its outcome is unknown (the connection broke during COMMIT): what is done again must bear that.

/** SQLSTATE classes (PostgreSQL manual, appendix A): connection, rolled back for concurrency, resources, operator intervention. */
const transientClasses = new Set(['08', '40', '53', '57']);
const transientStates = new Set([
  '55P03', // lock_not_available: lock_timeout
  '25P03', // idle_in_transaction_session_timeout
  '25P04', // transaction_timeout
  '25006', // read_only_sql_transaction: the server has become a standby
]);

const connectionCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOENT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
  'ENOTFOUND',
]);

/** Texts of node-postgres and its pool, which have no code. */
const connectionTexts =
  /^(Connection terminated|Client has encountered a connection error|Query read timeout|timeout exceeded when trying to connect|timeout expired|Client was closed|Connection ended)/i;

/** True when a later attempt at the same transaction may succeed though nothing else changes. */
export function isTransientDatabaseError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  // Every address of a host was tried.
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.every(isTransientDatabaseError);
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (typeof code === 'string') {
    if (/^[0-9A-Z]{5}$/.test(code) && !code.startsWith('E'))
      return transientClasses.has(code.slice(0, 2)) || transientStates.has(code);
    // A file that is missing has a code of the same kind: only what happened to a socket counts.
    if (connectionCodes.has(code))
      return syscall === 'connect' || syscall === 'read' || syscall === 'write' || syscall === 'getaddrinfo';
  }
  return connectionTexts.test(error.message);
}
