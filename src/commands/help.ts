// The help of the command line: of all commands, of those that share a first word, of one.
import type { Command } from './command.ts';

type Commands = Readonly<Record<string, Command>>;

const usageOf = (name: string, { operands = [] }: Command): string =>
  [name, ...operands.map((operand) => `<${operand}>`)].join(' ');

const columns = (lines: readonly (readonly [string, string])[]): string => {
  const width = Math.max(...lines.map(([left]) => left.length));
  return lines.map(([left, right]) => `  ${left.padEnd(width)}   ${right}\n`).join('');
};

const summaries = (commands: Commands) =>
  Object.entries(commands).map(([name, command]) => [usageOf(name, command), command.summary] as const);

export const helpOfAll = (commands: Commands): string => `Usage: obraz <command>

${columns([...summaries(commands), ['help <command>', 'tell more of one command']])}
Settings come from the environment: see README. The commands find the service by its data folder, OBRAZ_DATA_DIR.
Exit status: 0 done, 1 failed, 2 called wrongly.
`;

/** `obraz help quota`: what there is of `quota …`; undefined when there is nothing. */
export function helpOfGroup(commands: Commands, word: string): string | undefined {
  const group = Object.fromEntries(Object.entries(commands).filter(([name]) => name.startsWith(`${word} `)));
  if (Object.keys(group).length === 0) return undefined;
  return `Usage: obraz ${word} <command>\n\n${columns(summaries(group))}`;
}

export function helpOfOne(name: string, command: Command): string {
  const { options = {}, summary, description } = command;
  const listed = Object.entries(options).map(
    ([option, { value, short, help }]) =>
      [`${short === undefined ? '' : `-${short}, `}--${option}${value === undefined ? '' : ` ${value}`}`, help] as const,
  );
  const usage = `Usage: obraz ${usageOf(name, command)}${listed.length > 0 ? ' [options]' : ''}`;
  const parts = [usage, `${summary[0]!.toUpperCase()}${summary.slice(1)}.`, description];
  const text = parts.filter((part) => part !== undefined).join('\n\n');
  return `${text}\n\n${columns([...listed, ['-h, --help', 'print this text']])}`;
}
