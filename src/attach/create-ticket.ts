import { AttachMode, type CreateTicketRequest, type Ticket } from '../../generated/obraz/v1/attach.ts';
import { authenticated } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { invalidArgument, unauthenticated } from '../platform/errors.ts';
import { type Access, checkAccess } from './access.ts';
import type { SessionMode } from './attach-session.entity.ts';
import type { AttachMethodsParts } from './methods.ts';
import { findAttachables } from './resources.ts';
import { toModeMessage } from './session.mapper.ts';
import { writeTicket } from './ticket.ts';

const defaultLifetimeSeconds = 5 * 60;
const maxLifetimeSeconds = 60 * 60;

/**
 * The ticket is good for what its caller may do now; that is asked again when it is used, and while it is in use. It ends with the token of
 * its caller at the latest: revocations are not known for ever.
 */
export const createTicket =
  ({ authority, authenticator, uris }: AttachMethodsParts): Method<CreateTicketRequest, Ticket> =>
  async ({ resourceId, mode: asked, lifetime }, call) => {
    const subject = authenticated(call);
    const lifetimeSeconds = parseLifetime(lifetime);
    const [found] = await findAttachables(call.em, [resourceId]);
    const mode: SessionMode = parseMode(asked) ?? (found?.kind === 'disk' ? 'READ_WRITE' : 'READ_ONLY');
    const access: Access = { subject, tokenId: authority.tokenIdOf(subject), resourceId, mode };
    await checkAccess({ em: call.em, rules: call.access }, access);
    const now = Math.floor(Date.now() / 1000);
    const tokenEnd = Math.floor((authenticator.expiryOf(subject) ?? Infinity) / 1000);
    if (tokenEnd <= now) throw unauthenticated();
    const expiresAt = Math.min(now + lifetimeSeconds, tokenEnd);
    const ticket = writeTicket({ ...access, expiresAt }, authority);
    return { ticket, uris: uris(ticket), expiresAt: new Date(expiresAt * 1000), mode: toModeMessage(mode) };
  };

function parseMode(mode: AttachMode): SessionMode | undefined {
  if (mode === AttachMode.ATTACH_MODE_UNSPECIFIED) return undefined;
  if (mode === AttachMode.ATTACH_MODE_READ_WRITE) return 'READ_WRITE';
  if (mode === AttachMode.ATTACH_MODE_READ_ONLY) return 'READ_ONLY';
  throw invalidArgument('mode', `there is no mode ${mode}`);
}

function parseLifetime(lifetime: CreateTicketRequest['lifetime']): number {
  if (lifetime === undefined) return defaultLifetimeSeconds;
  const seconds = Number(lifetime.seconds);
  if (seconds < 1 || seconds > maxLifetimeSeconds) {
    throw invalidArgument('lifetime', `must be from 1 to ${maxLifetimeSeconds} seconds, not ${seconds}`);
  }
  return seconds;
}
