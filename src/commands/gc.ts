import { readConfig } from '../config.ts';
import { defineCommand, untilInterrupted } from './command.ts';

export const gc = defineCommand({
  summary: 'delete image data that nothing uses any more',
  description: `The service does this by itself now and then, and soon after something was deleted or given up.
Data in use is never deleted, whatever runs at the same time.`,
  options: { 'dry-run': { type: 'boolean', help: 'only say how much there is' } },
  async run({ environment, options }) {
    const { collectOnly } = await import('../app.ts');
    const dryRun = options['dry-run'] === true;
    const { stored, storedBytes, condemned, condemnedBytes, deleted, pending } = await collectOnly(
      readConfig(environment),
      dryRun,
      untilInterrupted(),
    );
    process.stdout.write(
      dryRun
        ? `objects: ${stored} (${storedBytes} bytes); newly unused: ${condemned} (${condemnedBytes} bytes); would be deleted now: ${deleted}\n`
        : `objects: ${stored} (${storedBytes} bytes); newly unused: ${condemned} (${condemnedBytes} bytes); deleted: ${deleted}; waiting for imports to end: ${pending}\n`,
    );
  },
});
