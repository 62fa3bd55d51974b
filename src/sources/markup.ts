// Tells a page for people from a file. Only the clear cases: what an image's bytes mean is for the formats to decide.

const lookedAtBytes = 8192;

/** True for a page that begins as HTML does, and for anything that begins with a tag and is called HTML by the server. */
export function looksLikeMarkup(bytes: Uint8Array, contentType: string | undefined): boolean {
  const text = new TextDecoder('utf-8').decode(bytes.subarray(0, lookedAtBytes));
  const start = text.slice(startOfMarkup(text), lookedAtBytes).slice(0, 40);
  if (/^<(?:!doctype\s+html|html)(?:[\s>]|$)/i.test(start)) return true;
  return /^\s*(?:text\/html|application\/xhtml\+xml)\s*(?:;|$)/i.test(contentType ?? '') && /^<[!?a-z]/i.test(start);
}

/** Where the first thing stands that is neither white space, nor an XML declaration, nor a whole comment. */
function startOfMarkup(text: string): number {
  let at = 0;
  for (;;) {
    while (at < text.length && text[at]!.trim() === '') at += 1;
    const end = text.startsWith('<!--', at) ? '-->' : text.startsWith('<?xml', at) ? '?>' : undefined;
    const endAt = end === undefined ? -1 : text.indexOf(end, at);
    if (end === undefined || endAt === -1) return at;
    at = endAt + end.length;
  }
}
