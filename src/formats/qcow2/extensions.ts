// Header extensions: skipped, whatever they are, except the one that names another file. Source: docs/interop/qcow2.txt, section
// "Header extensions". Only their frame is checked: type, length, room.
import { damagedRemedy, refuse } from '../refusal.ts';

const endOfExtensions = 0;
const externalDataFileName = 0x44415441;

/**
 * `bytes` are the start of the extension area, which reaches from the end of the header to the end of the first cluster and has
 * `areaBytes`. Clusters are large and extensions few: the caller reads as much as it has at hand.
 * @throws DomainError INVALID_ARGUMENT when an extension does not fit, or names an external data file.
 */
export function checkExtensions(bytes: Uint8Array, areaBytes: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  while (at + 8 <= bytes.length) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === endOfExtensions) return;
    if (type === externalDataFileName)
      throw refuse({
        format: 'Qcow2',
        field: 'a header extension',
        value: 'external data file name',
        bound: 'must not be there: names inside an image are never followed',
        remedy: 'Join the two files into one first: qemu-img convert -f qcow2 -O qcow2 <file> <file>.qcow2',
      });
    const room = areaBytes - at - 8;
    if (length > room)
      throw refuse({
        format: 'Qcow2',
        field: `the length of header extension 0x${type.toString(16)}`,
        value: length,
        bound: `must be at most ${room}, what the first cluster has left`,
        remedy: damagedRemedy,
      });
    at += 8 + Math.ceil(length / 8) * 8;
  }
}
