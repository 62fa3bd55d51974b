/**
 * What can go wrong on the wire, for this folder and its callers only: probe, range reader and spool turn it into what a user sees.
 *   unreachable  no connection, or what answered does not speak HTTP: one kind for all, so that imports are no port scanner
 *   untrusted    the server's certificate could not be verified; `message` is the reason's code
 *   proxy        the operator's proxy is away or refuses; `message` says how
 *   broken       the connection ended, was reset, or stalled: a later try may work
 *   malformed    an HTTP answer that breaks its own rules: never read further
 */
export class WireError extends Error {
  override readonly name = 'WireError';
  readonly kind: 'unreachable' | 'untrusted' | 'proxy' | 'broken' | 'malformed';

  constructor(kind: WireError['kind'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }
}

export const malformed = (message: string): WireError => new WireError('malformed', message);
