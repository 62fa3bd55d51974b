import type { Metadata } from '@grpc/grpc-js';
import { readConfig } from '../config.ts';
import { defineCommand, untilInterrupted, UsageError } from './command.ts';
import { eitherWay, findService, readStream, type RunningService } from './running-service.ts';

const maxCount = 1_000_000;

export const auditTail = defineCommand({
  summary: 'show who changed what, as JSON lines',
  description: `One line for every call that changed something, for the end of what it began, and for calls that were refused.
With --follow it goes on until Ctrl-C.`,
  options: {
    lines: { type: 'string', value: '<count>', short: 'n', help: 'how many of the last events; 10 when it is not given' },
    follow: { type: 'boolean', short: 'f', help: 'go on with what comes' },
  },
  async run({ environment, options }) {
    const last = parseCount(options.lines ?? '10');
    const follow = options.follow === true;
    const signal = untilInterrupted();
    // Whoever reads the lines may have seen enough.
    process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => process.exit(code === 'EPIPE' ? 0 : 1));
    // Ctrl-C is how it ends.
    const config = readConfig(environment);
    await eitherWay(config, signal, {
      async alone({ fork }) {
        const [{ readEvents }, { toLine }] = await Promise.all([import('../audit/read-events.ts'), import('../audit/event.ts')]);
        for await (const { event } of readEvents(fork, { last, after: 0, follow }, signal)) print(toLine(event));
      },
      async through(service) {
        const { AuditServiceClient } = await import('../../generated/obraz/v1/audit.ts');
        let afterNumber = 0n;
        const read = ({ metadata, with: open }: RunningService): Promise<void> =>
          open(AuditServiceClient, (client) =>
            readStream(client.tail({ count: BigInt(last), afterNumber, follow }, metadata), signal, ({ number, json }) => {
              print(json);
              afterNumber = number;
            }),
          );
        let current = service;
        while (true) {
          try {
            return await read(current);
          } catch (error) {
            // It has ended with its token: the administrator has a new one long before that.
            const fresh = follow && isUnauthenticated(error) ? await findService(config) : current;
            if (tokenOf(fresh.metadata) === tokenOf(current.metadata)) throw error;
            current = fresh;
          }
        }
      },
    }).catch((error: unknown) => {
      if (!follow || !signal.aborted) throw error;
    });
  },
});

const print = (line: string): void => void process.stdout.write(`${line}\n`);

const unauthenticatedCode = 16;

/** Of what `readStream` throws. */
const isUnauthenticated = (error: unknown): boolean =>
  error instanceof Error && (error.cause as { code?: unknown } | undefined)?.code === unauthenticatedCode;

const tokenOf = (metadata: Metadata): string => String(metadata.get('authorization')[0]);

function parseCount(text: string): number {
  const count = /^\d{1,7}$/.test(text) ? Number(text) : Number.NaN;
  if (!(count <= maxCount)) throw new UsageError(`audit tail: --lines must be a number from 0 to ${maxCount}, not "${text}"`);
  return count;
}
