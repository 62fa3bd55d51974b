import { isLoopback } from '../../platform/address.ts';

/** What an identity provider may be reached by: https, or http on this very machine. No user, no query, no fragment. */
export function isProviderUrl(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || url.username !== '' || url.password !== '' || url.hash !== '' || text.includes('?')) return false;
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  return url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback({ host, port: 0 }));
}
