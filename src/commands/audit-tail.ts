import { readConfig } from '../config.ts';
import { defineCommand, untilInterrupted, UsageError } from './command.ts';
import { eitherWay, readStream } from './running-service.ts';

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
    await eitherWay(readConfig(environment), signal, {
      async alone({ fork }) {
        const [{ readEvents }, { toLine }] = await Promise.all([import('../audit/read-events.ts'), import('../audit/event.ts')]);
        for await (const { event } of readEvents(fork, { last, after: 0, follow }, signal)) print(toLine(event));
      },
      async through(service) {
        const { AuditServiceClient } = await import('../../generated/obraz/v1/audit.ts');
        const request = { count: BigInt(last), afterNumber: 0n, follow };
        await service.with(AuditServiceClient, (client) =>
          readStream(client.tail(request, service.metadata), signal, ({ json }) => print(json)),
        );
      },
    }).catch((error: unknown) => {
      if (!follow || !signal.aborted) throw error;
    });
  },
});

const print = (line: string): void => void process.stdout.write(`${line}\n`);

function parseCount(text: string): number {
  const count = /^\d{1,7}$/.test(text) ? Number(text) : Number.NaN;
  if (!(count <= maxCount)) throw new UsageError(`audit tail: --lines must be a number from 0 to ${maxCount}, not "${text}"`);
  return count;
}
