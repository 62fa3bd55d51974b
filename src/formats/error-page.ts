// Web servers answer with a page where the file should be: a login form, an S3 error, a "404 page not found". Read as RAW such a page
// would become a READY image that does not boot, so text is told from disks here.

/** Characters of text: everything printable in UTF-8, tab, line feed, form feed, carriage return. A disk's first sectors have others. */
function isText(bytes: Uint8Array): boolean {
  for (const byte of bytes) if (byte < 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0c && byte !== 0x0d) return false;
  // `stream` tolerates a character that the end of the bytes cuts in two.
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: true });
    return true;
  } catch {
    return false;
  }
}

/** "an HTML page", "a text file" …, or undefined when these can be the first bytes of a disk. `head` reaches 64 KiB or the end. */
export function nameOfText(head: Uint8Array, sizeBytes: number): string | undefined {
  const start = Buffer.from(head.subarray(0, 1024))
    .toString('latin1')
    .replace(/^\u00ef\u00bb\u00bf/, '')
    .trimStart()
    .toLowerCase();
  // HTML may hold stray control characters and any encoding; its first tag is mark enough.
  if (/^(<!--[^>]*-->\s*)*<(!doctype html|html|head|body)[\s>]/.test(start)) return 'an HTML page';
  if (!isText(head)) return undefined;
  if (start.startsWith('<')) return /<(ovf:)?envelope/.test(start) ? 'an OVF descriptor' : 'an XML document';
  const isWhole = sizeBytes === head.length;
  if (/^[{[]/.test(start) && (!isWhole || isJson(head))) return 'a JSON document';
  // Longer text could be somebody's raw data; a short one is a message.
  return isWhole ? 'a text file' : undefined;
}

function isJson(bytes: Uint8Array): boolean {
  try {
    JSON.parse(
      Buffer.from(bytes)
        .toString('utf8')
        .replace(/^\uFEFF/, ''),
    );
    return true;
  } catch {
    return false;
  }
}
