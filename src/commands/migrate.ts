import { readConfig } from '../config.ts';
import { defineCommand, untilInterrupted } from './command.ts';

export const migrate = defineCommand({
  summary: "bring the database to this version's schema, then exit",
  description: `Every start does it, too. Run it once before several processes of a new version are rolled out.`,
  async run({ environment }) {
    const { openWithoutServing } = await import('../without-serving.ts');
    await using _parts = await openWithoutServing(readConfig(environment), untilInterrupted());
    process.stdout.write('the database is up to date\n');
  },
});
