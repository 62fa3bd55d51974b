// What a command of the command line is. main.ts finds it by its words, parses its options, and prints its help; a file here holds what
// one command does and all that its help says.

export interface OptionSpec {
  type: 'boolean' | 'string';
  /** For `string`: how the value is called in the help, `<bytes>`. */
  value?: string;
  short?: string;
  help: string;
}

export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

type OptionValue<Type extends OptionSpec['type']> = Type extends 'boolean' ? boolean : string;

export type OptionValues<Specs extends OptionSpecs> = {
  readonly [Name in keyof Specs]: OptionValue<Specs[Name]['type']> | undefined;
};

export interface Input<Specs extends OptionSpecs> {
  environment: NodeJS.ProcessEnv;
  options: OptionValues<Specs>;
  /** As many as the command has names for. */
  operands: readonly string[];
}

export interface Command<Specs extends OptionSpecs = OptionSpecs> {
  /** One line of `obraz help`. */
  summary: string;
  /** What `obraz help X` says beside usage and options. */
  description?: string;
  options?: Specs;
  /** Names of the words that follow the command; each of them must be given. */
  operands?: readonly string[];
  /**
   * Heavy parts are imported in here, so that help is quick. Ends the process with exit status 0 unless it sets `process.exitCode`.
   * @throws ConfigError, StartError: what an operator can mend, told in words. UsageError: the command was called wrongly.
   */
  run(input: Input<Specs>): Promise<void>;
}

/** `export const gc = defineCommand({ … })`: types the options that `run` gets by their specs. */
export const defineCommand = <const Specs extends OptionSpecs>(command: Command<Specs>): Command => command;

/** The command line itself is wrong: exit status 2, with a hint at the help. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Somebody stopped the command: exit status 1. */
class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/** Aborts at the first SIGINT or SIGTERM; the second one ends the process as usual. */
export function untilInterrupted(): AbortSignal {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort(new Interrupted('stopped')));
  return stop.signal;
}
