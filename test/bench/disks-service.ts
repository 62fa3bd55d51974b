// What the benches of disks ask the running service for, beside the public API.
import { credentials } from '@grpc/grpc-js';
import { AttachMode, AttachServiceClient } from '../../generated/obraz/v1/attach.ts';
import { type ObrazClient, unary } from '../support/client.ts';

/** The NBD URI of a ticket, over the local socket: what `obraz nbd attach` prints. A disk is opened for writing. */
export async function ticketUri(
  client: ObrazClient,
  resourceId: string,
  mode: AttachMode = AttachMode.ATTACH_MODE_UNSPECIFIED,
): Promise<string> {
  const attach = new AttachServiceClient(client.address, credentials.createInsecure());
  try {
    const ticket = await unary(attach, attach.createTicket, { resourceId, mode, lifetime: undefined }, client.metadata);
    return ticket.uris[0]!;
  } finally {
    attach.close();
  }
}
