// What a list can filter and sort by, and how those values are written in filters and page tokens.
import { invalidArgument } from '../../platform/errors.ts';
import type { FilterValue } from './filter.ts';
import { foreignPageToken } from './page-token.ts';

/**
 * A field that clients may name. Its column must not be null. Text that sorts must be at most 63 characters long, or a page token
 * cannot hold it. `values`: what a text field can be, where that is a closed set.
 */
export interface ListField {
  type: 'text' | 'integer' | 'instant';
  values?: readonly string[];
  /** False for a field that only sorts. */
  filters?: boolean;
  /** False for a field that only filters. */
  sorts?: boolean;
}

export type ListFields = Record<string, ListField>;

export type ColumnValue = string | number | Date;

/** The field that a client names in camelCase or snake_case; `undefined` when there is none. */
export function findField(fields: ListFields, name: string): { property: string; field: ListField } | undefined {
  const property = /^[a-z0-9_]+$/.test(name) ? name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()) : name;
  return Object.hasOwn(fields, property) ? { property, field: fields[property]! } : undefined;
}

/** @throws DomainError INVALID_ARGUMENT on `filter` for a value that the field cannot have. */
export function filterValue(name: string, field: ListField, { kind, text }: FilterValue): ColumnValue {
  switch (field.type) {
    case 'text':
      if (kind !== 'string') throw invalidArgument('filter', `${name} is compared with a string in quotes`);
      if (field.values !== undefined && !field.values.includes(text)) {
        throw invalidArgument('filter', `${name} is one of ${field.values.join(', ')}, not "${text.slice(0, 63)}"`);
      }
      return text;
    case 'integer':
      if (!/^-?[0-9]{1,16}$/.test(text) || !Number.isSafeInteger(Number(text))) {
        throw invalidArgument('filter', `${name} is compared with an integer of at most 2^53 - 1`);
      }
      return Number(text);
    case 'instant': {
      const isRfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/.test(text);
      const instant = new Date(isRfc3339 ? text : NaN);
      if (Number.isNaN(instant.getTime())) {
        throw invalidArgument('filter', `${name} is compared with an instant in quotes, for example "2026-01-31T09:30:00Z"`);
      }
      return instant;
    }
  }
}

/** A value as page tokens hold it: text as it is, numbers and milliseconds in base 36. */
export function toTokenText(type: ListField['type'], value: unknown): string {
  switch (type) {
    case 'text':
      return value as string;
    case 'integer':
      return (value as number).toString(36);
    case 'instant':
      return (value as Date).getTime().toString(36);
  }
}

/** The inverse. @throws DomainError INVALID_ARGUMENT on `page_token`. */
export function fromTokenText(type: ListField['type'], text: string): ColumnValue {
  if (type === 'text') {
    if (text.includes('\0')) throw foreignPageToken();
    return text;
  }
  const number = /^-?[0-9a-z]{1,11}$/.test(text) ? parseInt(text, 36) : NaN;
  if (!Number.isSafeInteger(number)) throw foreignPageToken();
  if (type === 'integer') return number;
  const instant = new Date(number);
  if (Number.isNaN(instant.getTime())) throw foreignPageToken();
  return instant;
}
