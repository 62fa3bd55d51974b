// obraz.v1.AttachService, whole: one file per method.
import type { Authenticator } from '../iam/authenticator.ts';
import type { TokenAuthority } from '../iam/tokens.ts';
import { createTicket } from './create-ticket.ts';
import { listSessions } from './list-sessions.ts';

export interface AttachMethodsParts {
  authority: TokenAuthority;
  authenticator: Pick<Authenticator, 'expiryOf'>;
  /** NBD URIs under which this process serves an export of that name; none when it serves no NBD. */
  uris: (exportName: string) => string[];
}

export const attachMethods = (parts: AttachMethodsParts) => ({
  createTicket: createTicket(parts),
  listSessions: listSessions(),
});
