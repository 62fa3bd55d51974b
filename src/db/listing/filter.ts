// The filter of list requests: `<field> <operator> <value> [AND …]`, with the operators =, !=, IN (…) and NOT IN (…). Strings stand in
// " or ' with the escapes of C, integers stand bare; keywords in any case; spaces are optional (facts, section 3.3). Text in, conditions
// out; what fields there are is decided in list-page.ts.
import { type DomainError, invalidArgument } from '../../platform/errors.ts';
import { unescapeString } from './string-escapes.ts';

export type FilterValue = { kind: 'string'; text: string } | { kind: 'integer'; text: string };

/** The field is one of `values`, or none of them when `negated`. `=` and `!=` have one value. */
export interface Condition {
  field: string;
  negated: boolean;
  values: FilterValue[];
}

/** A list request's filter, in characters. */
export const maxFilterLength = 1000;

interface Token {
  kind: 'word' | 'string' | 'integer' | '=' | '!=' | '(' | ')' | ',' | 'end';
  text: string;
  /** First character of the token, from 1. */
  position: number;
}

const tokenPattern =
  /\s*(?:(?<word>[A-Za-z_][A-Za-z0-9_.]*)|(?<integer>-?[0-9]+)|(?<string>"(?:[^"\\]|\\[^])*"|'(?:[^'\\]|\\[^])*')|(?<symbol>!=|[=(),]))/y;

/**
 * `parseFilter('name = "a" AND family IN ("b", "c")')` → two conditions; an empty filter has none.
 * @throws DomainError INVALID_ARGUMENT on `filter`, with the position of the first fault.
 */
export function parseFilter(filter: string): Condition[] {
  if (filter.length > maxFilterLength && Array.from(filter).length > maxFilterLength) {
    throw invalidArgument('filter', `must be at most ${maxFilterLength} characters long`);
  }
  const tokens = tokenize(filter);
  if (tokens.length === 1) return [];
  const reader = new TokenReader(tokens);
  const conditions = [parseCondition(reader)];
  while (!reader.takeIf('end')) {
    if (!reader.takeKeyword('AND')) throw reader.unexpected('AND or the end');
    conditions.push(parseCondition(reader));
  }
  return conditions;
}

function parseCondition(reader: TokenReader): Condition {
  const field = reader.take('word', 'a field name').text;
  if (reader.takeIf('=')) return { field, negated: false, values: [parseValue(reader)] };
  if (reader.takeIf('!=')) return { field, negated: true, values: [parseValue(reader)] };
  const negated = reader.takeKeyword('NOT');
  if (!reader.takeKeyword('IN')) throw reader.unexpected(negated ? 'IN' : '=, !=, IN or NOT IN');
  reader.take('(', '"("');
  const values = [parseValue(reader)];
  while (!reader.takeIf(')')) {
    if (!reader.takeIf(',')) throw reader.unexpected('"," or ")"');
    values.push(parseValue(reader));
  }
  return { field, negated, values };
}

function parseValue(reader: TokenReader): FilterValue {
  const integer = reader.takeIf('integer');
  if (integer !== undefined) return { kind: 'integer', text: integer.text };
  const string = reader.take('string', 'a value in quotes');
  return { kind: 'string', text: unescapeString(string.text.slice(1, -1), string.position + 1) };
}

function tokenize(filter: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const end = filter.trimEnd().length;
  while (at < end) {
    tokenPattern.lastIndex = at;
    const match = tokenPattern.exec(filter);
    if (match === null) throw unreadable(filter, at);
    const { word, integer, string, symbol } = match.groups as Partial<Record<string, string>>;
    const text = (word ?? integer ?? string ?? symbol)!;
    const kind = word !== undefined ? 'word' : integer !== undefined ? 'integer' : string !== undefined ? 'string' : symbol;
    at = tokenPattern.lastIndex;
    tokens.push({ kind: kind as Token['kind'], text, position: at - text.length + 1 });
  }
  tokens.push({ kind: 'end', text: '', position: end + 1 });
  return tokens;
}

function unreadable(filter: string, at: number): DomainError {
  const rest = filter.slice(at);
  const start = at + rest.length - rest.trimStart().length;
  const [character] = filter.slice(start);
  const unclosed = character === '"' || character === "'";
  return fault(start + 1, unclosed ? `the string is not closed by ${character}` : `unexpected character "${character}"`);
}

/** Walks over the tokens; the last one is `end`. */
class TokenReader {
  readonly #tokens: Token[];
  #next = 0;

  constructor(tokens: Token[]) {
    this.#tokens = tokens;
  }

  get #current(): Token {
    return this.#tokens[this.#next]!;
  }

  takeIf(kind: Token['kind']): Token | undefined {
    return this.#current.kind === kind ? this.#tokens[this.#next++] : undefined;
  }

  take(kind: Token['kind'], expected: string): Token {
    const token = this.takeIf(kind);
    if (token === undefined) throw this.unexpected(expected);
    return token;
  }

  takeKeyword(keyword: string): boolean {
    const { kind, text } = this.#current;
    return kind === 'word' && text.toUpperCase() === keyword && this.takeIf('word') !== undefined;
  }

  unexpected(expected: string): DomainError {
    const { kind, text, position } = this.#current;
    const shown = text.length > 40 ? `${text.slice(0, 40)}…` : text;
    return fault(position, `expected ${expected}, found ${kind === 'end' ? 'the end' : shown}`);
  }
}

const fault = (position: number, description: string): DomainError =>
  invalidArgument('filter', `${description} (character ${position})`);
