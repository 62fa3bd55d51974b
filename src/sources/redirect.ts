// Redirects: each leads to a URL that is read as strictly as the first one, and is judged by the policy as the first one was.
import { DomainError } from '../platform/errors.ts';
import { sourceFailed } from './source-failure.ts';
import { describeUrl, hostForUrl, type HttpUrl, parseHttpUrl } from './source-uri.ts';
import type { Target, UrlPolicy } from './url-policy.ts';

/** @throws DomainError FAILED_PRECONDITION for a redirect that cannot be followed. */
export function redirectUrl(from: HttpUrl, location: string | undefined): HttpUrl {
  const fail = (why: string) => sourceFailed('SOURCE_REDIRECT', `Source ${describeUrl(from)} redirects ${why}`);
  if (location === undefined || location === '') throw fail('without saying where');
  // Header bytes arrive as latin1; servers that do not escape their paths mean UTF-8.
  const [text = ''] = Buffer.from(location, 'latin1').toString('utf8').split('#', 1);
  let url: HttpUrl;
  try {
    url = parseHttpUrl(absolute(from, text));
  } catch (error) {
    throw fail(`to a place that cannot be followed: ${(error as Error).message.replace(/^uri: /, '')}`);
  }
  if (from.protocol === 'https:' && url.protocol === 'http:') throw fail('from https to http, which is refused');
  return url;
}

/** Only paths are resolved; a reference that names a host is left as it is written, so that it is read as strictly as a first URL. */
function absolute(from: HttpUrl, location: string): string {
  if (/^[a-z][a-z0-9+.-]*:/i.test(location)) return location;
  if (location.startsWith('//')) return `${from.protocol}${location}`;
  const origin = `${from.protocol}//${hostForUrl(from)}:${from.port}`;
  if (location.includes('\\')) return location;
  // Only path and query are taken: what the standard would repair cannot lead to another host.
  const { pathname, search } = new URL(location, `${origin}${from.path}`);
  return `${origin}${pathname}${search}`;
}

/** @throws DomainError FAILED_PRECONDITION when the policy refuses the place; TransientError when its name could not be looked up. */
export async function checkRedirect(
  url: HttpUrl,
  policy: UrlPolicy,
  from: HttpUrl,
  signal: AbortSignal | undefined,
): Promise<Target> {
  try {
    return await policy.check(url, signal);
  } catch (error) {
    if (!(error instanceof DomainError)) throw error;
    const why = error.message.replace(/^uri: /, '');
    throw sourceFailed('SOURCE_REDIRECT', `Source ${describeUrl(from)} redirects to a place that imports may not reach: ${why}`);
  }
}
