// `obraz nbd attach` and `obraz nbd list`: block access from the command line, as the admin of the service in this data folder.
import { readConfig } from '../config.ts';
import { StartError } from '../platform/start-error.ts';
import { defineCommand, UsageError } from './command.ts';
import { findService } from './running-service.ts';

const maxLifetimeSeconds = 60 * 60;

export const nbdAttach = defineCommand({
  summary: 'print the NBD URI that opens a disk, an image or a snapshot',
  description: `The URI carries a ticket: whoever has it may open the export until it expires; what is open stays open. A disk is opened
for writing, by one client at a time; images and snapshots for reading.

  qemu-img info "$(obraz nbd attach <id>)"
  qemu-system-x86_64 -drive file="$(obraz nbd attach <id>)",format=raw,if=virtio …`,
  operands: ['id'],
  options: {
    'read-only': { type: 'boolean', help: 'open a disk for reading only, as it is at that moment' },
    tcp: { type: 'boolean', help: 'the URI of the TCP port, not of the local socket' },
    lifetime: { type: 'string', value: '<seconds>', help: 'how long the ticket opens it, 300 when not given, 3600 at most' },
  },
  async run({ environment, operands, options }) {
    const config = readConfig(environment);
    const lifetime = parseLifetime(options.lifetime);
    const { AttachMode, AttachServiceClient } = await import('../../generated/obraz/v1/attach.ts');
    const mode = options['read-only'] === true ? AttachMode.ATTACH_MODE_READ_ONLY : AttachMode.ATTACH_MODE_UNSPECIFIED;
    const service = await findService(config);
    const ticket = await service.with(AttachServiceClient, (client) =>
      service.call(client, client.createTicket, { resourceId: operands[0]!, mode, lifetime }),
    );
    const uri = options.tcp === true ? ticket.uris.find((each) => !each.startsWith('nbd+unix:')) : ticket.uris[0];
    if (uri === undefined) throw new StartError('this process serves no NBD there: give it the role nbd (OBRAZ_ROLES)');
    process.stdout.write(`${uri}\n`);
    if (process.stdout.isTTY) process.stderr.write(advice(uri, ticket));
  },
});

export const nbdList = defineCommand({
  summary: 'list what is open over NBD, on all machines',
  options: { resource: { type: 'string', value: '<id>', help: 'only sessions of this disk, image or snapshot' } },
  async run({ environment, options }) {
    const config = readConfig(environment);
    const { AttachMode, AttachServiceClient } = await import('../../generated/obraz/v1/attach.ts');
    const service = await findService(config);
    const { sessions } = await service.with(AttachServiceClient, (client) =>
      service.call(client, client.listSessions, { resourceId: options.resource ?? '' }),
    );
    for (const { resourceId, mode, createdAt, peer, subjectId, machineId } of sessions) {
      const shownMode = mode === AttachMode.ATTACH_MODE_READ_WRITE ? 'rw' : 'ro';
      process.stdout.write(`${[resourceId, shownMode, createdAt?.toISOString() ?? '', machineId, subjectId, peer].join('\t')}\n`);
    }
  },
});

function parseLifetime(text: string | undefined): { seconds: bigint; nanos: number } | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,4}$/.test(text) || Number(text) < 1 || Number(text) > maxLifetimeSeconds) {
    throw new UsageError(`nbd attach: --lifetime must be from 1 to ${maxLifetimeSeconds} seconds`, { cause: 'nbd attach' });
  }
  return { seconds: BigInt(text), nanos: 0 };
}

const advice = (uri: string, { expiresAt }: { expiresAt: Date | undefined }): string => `
It opens until ${expiresAt?.toISOString() ?? '?'}, and again with another ticket. For example:

  qemu-img info "${uri}"
  qemu-system-x86_64 -m 1G -drive file="${uri}",format=raw,if=virtio
`;
