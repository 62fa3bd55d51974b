// What of a message may stand in an event: everything but secrets, and not too much. Requests come as proto JSON.
import { maskSecrets } from '../platform/log.ts';

export type Json = string | number | boolean | null | Json[] | JsonObject;
export interface JsonObject {
  [name: string]: Json;
}

/** Lower case, without underscores. */
const secretNames: ReadonlySet<string> = new Set([
  'jwt',
  'token',
  'iamtoken',
  'yandexpassportoauthtoken',
  'privatekey',
  'secret',
  'password',
  'ticket',
  'uris',
]);

const isSecret = (name: string): boolean => secretNames.has(name.replaceAll('_', '').toLowerCase());

const maxText = 2_048;
const maxDepth = 16;

export interface Bounds {
  /** Items of one list, names of one object. */
  items: number;
  /** Characters of JSON of the whole; more is left out altogether. */
  characters: number;
}

/** What a change may leave: a thousand access bindings stand in it whole. */
export const changeBounds: Bounds = { items: 1_024, characters: 128 * 1024 };
/** What a refused call may leave: strangers write these. */
export const refusalBounds: Bounds = { items: 32, characters: 8 * 1024 };
export const responseBounds: Bounds = { items: 32, characters: 4 * 1024 };

/** A copy without secrets: tokens, keys, queries of URLs; `{ "truncated": true }` in the place of one that is too large. */
export function masked(message: JsonObject, bounds: Bounds): JsonObject {
  const shown = maskedObject(message, bounds.items, 0);
  return JSON.stringify(shown).length <= bounds.characters ? shown : { truncated: true };
}

function maskedObject(object: JsonObject, items: number, depth: number): JsonObject {
  const entries = Object.entries(object).slice(0, items);
  return Object.fromEntries(
    entries.map(([name, value]) => [maskedText(name), isSecret(name) ? '*****' : maskedValue(name, value, items, depth + 1)]),
  );
}

function maskedValue(name: string, value: Json, items: number, depth: number): Json {
  if (typeof value === 'string') return /uri$/i.test(name) ? maskUri(value) : maskedText(value);
  if (typeof value !== 'object' || value === null) return value;
  if (depth > maxDepth) return '…';
  if (Array.isArray(value)) return value.slice(0, items).map((item) => maskedValue(name, item, items, depth + 1));
  return maskedObject(value, items, depth);
}

/** PostgreSQL's JSON has no place for half of a surrogate pair, which a cut may leave, nor for NUL. */
const cut = (text: string, maxLength: number): string =>
  (text.length > maxLength ? `${text.slice(0, maxLength)}…` : text).toWellFormed().replaceAll('\0', '\ufffd');

/** Fit for an event: without secrets, short, and such that the database takes it. Nothing may be cut off it afterwards. */
export const maskedText = (text: string, maxLength = maxText): string => cut(maskSecrets(text), maxLength);

/** Whatever it is that was given as a URI: nothing of a query and no password. The fragment stays: it names the digest. */
function maskUri(uri: string): string {
  const [beforeFragment = '', ...fragment] = uri.split('#');
  const [beforeQuery = '', ...query] = beforeFragment.split('?');
  const place = beforeQuery.replace(/^([a-z+.-]*:[/\\]+)?[^/\\]*@/i, '$1[secret]@');
  return maskedText(`${place}${query.length > 0 ? '?[query]' : ''}${fragment.length > 0 ? `#${fragment.join('#')}` : ''}`);
}
