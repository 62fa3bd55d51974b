import type { GarbageProgress } from '../../generated/obraz/v1/maintenance.ts';
import { type Config, readConfig } from '../config.ts';
import { defineCommand, untilInterrupted } from './command.ts';
import { ProgressLine } from './progress-line.ts';
import { eitherWay, readStream } from './running-service.ts';

export const gc = defineCommand({
  summary: 'delete image data that nothing uses any more',
  description: `The service does this by itself now and then, and soon after something was deleted or given up.
Data in use is never deleted, whatever runs at the same time. When the service runs, it does the work.`,
  options: { 'dry-run': { type: 'boolean', help: 'only say how much there is' } },
  async run({ environment, options }) {
    const dryRun = options['dry-run'] === true;
    const counts = await collect(readConfig(environment), dryRun);
    const { stored, storedBytes, condemned, condemnedBytes, deleted, pending, missing } = counts;
    const found = `objects: ${stored} (${storedBytes} bytes); newly unused: ${condemned} (${condemnedBytes} bytes)`;
    process.stdout.write(
      dryRun
        ? `${found}; would be deleted now: ${deleted}\n`
        : `${found}; deleted: ${deleted}; waiting for what is being written to end: ${pending}\n`,
    );
    if (missing > 0)
      process.stderr.write(`obraz: ${missing} objects that are needed are missing: obraz scrub tells whom they touch\n`);
  },
});

interface Counts {
  stored: number;
  storedBytes: number;
  condemned: number;
  condemnedBytes: number;
  deleted: number;
  pending: number;
  missing: number;
}

async function collect(config: Config, dryRun: boolean): Promise<Counts> {
  const signal = untilInterrupted();
  using line = new ProgressLine();
  const tell = (phase: string, { stored, deleted }: Pick<Counts, 'stored' | 'deleted'>) =>
    line.show(`${phase}: ${stored} objects seen, ${deleted} deleted`);
  // Awaited here: the line is there only inside this function.
  return await eitherWay(config, signal, {
    async alone({ url, storage }) {
      const { collectNow } = await import('../gc/collect.ts');
      const onProgress = (progress: Pick<Counts, 'stored' | 'deleted'> & { phase: string }) => tell(progress.phase, progress);
      return collectNow({ url, storage: await storage() }, { dryRun, signal, onProgress });
    },
    async through(service) {
      const { MaintenanceServiceClient } = await import('../../generated/obraz/v1/maintenance.ts');
      let counts: Counts | undefined;
      await service.with(MaintenanceServiceClient, (client) =>
        readStream(client.collectGarbage({ dryRun }, service.metadata), signal, (message) => {
          counts = toCounts(message);
          tell(message.phase, counts);
        }),
      );
      return counts!;
    },
  });
}

const toCounts = (message: GarbageProgress): Counts => ({
  stored: Number(message.storedObjects),
  storedBytes: Number(message.storedBytes),
  condemned: Number(message.condemnedObjects),
  condemnedBytes: Number(message.condemnedBytes),
  deleted: Number(message.deletedObjects),
  pending: Number(message.pendingObjects),
  missing: Number(message.missingObjects),
});
