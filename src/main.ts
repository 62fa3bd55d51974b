#!/usr/bin/env node
// The command line: finds the command by its first words, parses the rest by what the command declares, and turns its end into an exit
// status: 0 done, 1 failed, 2 called wrongly; a command may have others, told in its help.
import { parseArgs } from 'node:util';
import { auditTail } from './commands/audit-tail.ts';
import { type Command, UsageError } from './commands/command.ts';
import { catalogImport } from './commands/catalog-import.ts';
import { catalogList } from './commands/catalog-list.ts';
import { gc } from './commands/gc.ts';
import { helpOfAll, helpOfGroup, helpOfOne } from './commands/help.ts';
import { migrate } from './commands/migrate.ts';
import { nbdAttach, nbdList } from './commands/nbd.ts';
import { quotaList } from './commands/quota-list.ts';
import { quotaSet } from './commands/quota-set.ts';
import { scrub } from './commands/scrub.ts';
import { serve } from './commands/serve.ts';
import { token } from './commands/token.ts';
import { widenSystemThreads } from './platform/system-threads.ts';

/** By the words that call them, one or two, in the order of the help. `help` is main's own. */
const commands: Readonly<Record<string, Command>> = {
  serve,
  gc,
  scrub,
  'quota list': quotaList,
  'quota set': quotaSet,
  'catalog list': catalogList,
  'catalog import': catalogImport,
  'audit tail': auditTail,
  'nbd attach': nbdAttach,
  'nbd list': nbdList,
  migrate,
  token,
};

async function main(words: readonly string[]): Promise<void> {
  const [first = 'help', ...rest] = words;
  if (first === '--help' || first === '-h') return print(helpOfAll(commands));
  if (first === 'help') return print(helpAbout(rest));
  const name = [words.slice(0, 2).join(' '), first].find((candidate) => Object.hasOwn(commands, candidate));
  if (name !== undefined) return runCommand(name, words.slice(name.split(' ').length));
  const group = helpOfGroup(commands, first);
  if (group === undefined) throw new UsageError(`unknown command "${first}"`);
  if (rest.length === 0 || rest[0] === '--help' || rest[0] === '-h') return print(group);
  throw new UsageError(`unknown command "${first} ${rest[0]}"`, { cause: first });
}

function helpAbout(words: readonly string[]): string {
  if (words.length === 0) return helpOfAll(commands);
  const name = words.join(' ');
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  const text = command === undefined ? helpOfGroup(commands, name) : helpOfOne(name, command);
  if (text === undefined) throw new UsageError(`unknown command "${name}"`);
  return text;
}

async function runCommand(name: string, words: readonly string[]): Promise<void> {
  const command = commands[name]!;
  const { values, positionals } = parseWords(name, command, words);
  if (values['help'] === true) return print(helpOfOne(name, command));
  const { operands = [] } = command;
  if (positionals.length > operands.length) {
    throw new UsageError(`${name}: "${positionals[operands.length]}" is one word too many`, { cause: name });
  }
  const missing = operands[positionals.length];
  if (missing !== undefined) throw new UsageError(`${name}: <${missing}> is missing`, { cause: name });
  await command.run({ environment: process.env, options: values, operands: positionals });
}

type Words = { values: Record<string, string | boolean | undefined>; positionals: string[] };

function parseWords(name: string, { options = {} }: Command, args: readonly string[]): Words {
  const known = Object.entries(options).map(([option, { type, short }]) => [
    option,
    short === undefined ? { type } : { type, short },
  ]);
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        ...(Object.fromEntries(known) as Record<string, { type: 'boolean' | 'string' }>),
        help: { type: 'boolean', short: 'h' },
      },
    });
    return { values, positionals };
  } catch (error) {
    // Node's text names the option and what is wrong with it; what it advises beyond the first sentence is about programs.
    throw new UsageError(`${name}: ${(error as Error).message.split('. ')[0]}`, { cause: name });
  }
}

const print = (text: string): void => void process.stdout.write(text);

const toldInWords: ReadonlySet<string> = new Set(['ConfigError', 'StartError', 'DomainError', 'TransientError', 'Interrupted']);

/** What an operator can mend is told in words; anything else is a bug, shown whole. */
function tell(error: Error): void {
  if (error instanceof UsageError) {
    const about = typeof error.cause === 'string' ? `obraz help ${error.cause}` : 'obraz help';
    process.stderr.write(`obraz: ${error.message}\nTry: ${about}\n`);
    process.exitCode = 2;
    return;
  }
  const text = toldInWords.has(error.name) ? error.message : error.stack;
  process.stderr.write(`obraz: ${text}\n`);
  process.exitCode = 1;
}

widenSystemThreads();
await main(process.argv.slice(2)).catch(tell);
