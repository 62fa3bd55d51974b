#!/usr/bin/env node
// The command line. `obraz serve` is what `npm start` runs.
import { parseArgs } from 'node:util';
import { ConfigError, readConfig } from './config.ts';

const help = `Usage: obraz <command>

  serve      run the service (settings come from the environment: see README)
  gc         delete image data that nothing uses any more, without serving (the service does it by itself, too);
             with --dry-run, only say how much there is
  migrate    bring the database to this version's schema, then exit
  token      print a fresh token of the admin service account
  help       print this text
`;

interface Options {
  dryRun: boolean;
}

type Command = (environment: NodeJS.ProcessEnv, options: Options) => Promise<void>;

/** Commands that know --dry-run. */
const dryCommands: ReadonlySet<string> = new Set(['gc']);

const commands: Record<string, Command> = {
  async serve(environment) {
    const { serve } = await import('./serve.ts');
    await serve(readConfig(environment));
  },
  async gc(environment, { dryRun }) {
    const { collectOnly } = await import('./app.ts');
    const stop = new AbortController();
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort(new Error('stopped')));
    const { stored, storedBytes, condemned, condemnedBytes, deleted, pending } = await collectOnly(
      readConfig(environment),
      dryRun,
      stop.signal,
    );
    process.stdout.write(
      dryRun
        ? `objects: ${stored} (${storedBytes} bytes); newly unused: ${condemned} (${condemnedBytes} bytes); would be deleted now: ${deleted}\n`
        : `objects: ${stored} (${storedBytes} bytes); newly unused: ${condemned} (${condemnedBytes} bytes); deleted: ${deleted}; waiting for imports to end: ${pending}\n`,
    );
  },
  async migrate(environment) {
    const { migrateOnly } = await import('./app.ts');
    await migrateOnly(readConfig(environment));
    process.stdout.write('the database is up to date\n');
  },
  async token(environment) {
    const { printToken } = await import('./token.ts');
    await printToken(readConfig(environment));
  },
  async help() {
    process.stdout.write(help);
  },
};

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { help: { type: 'boolean', short: 'h' }, 'dry-run': { type: 'boolean' } },
  });
  const name = values.help === true || positionals.length === 0 ? 'help' : positionals[0]!;
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined || positionals.length > 1) {
    process.stderr.write(`obraz: unknown command "${positionals.join(' ')}"\n\n${help}`);
    process.exitCode = 2;
    return;
  }
  const dryRun = values['dry-run'] === true;
  if (dryRun && !dryCommands.has(name)) {
    process.stderr.write(`obraz: ${name} knows no --dry-run\n\n${help}`);
    process.exitCode = 2;
    return;
  }
  try {
    await command(process.env, { dryRun });
  } catch (error) {
    // What an operator can mend is told in words; anything else is a bug, shown whole.
    const text =
      error instanceof ConfigError || (error as Error).name === 'StartError' ? (error as Error).message : (error as Error).stack;
    process.stderr.write(`obraz: ${text}\n`);
    process.exitCode = 1;
  }
}

await main();
