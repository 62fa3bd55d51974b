// Request bytes to a message. Protobuf demands that a `string` is UTF-8; the generated decoders put U+FFFD in place of what is not.
// Here such a string is marked instead, so that validation can name its field: a lone surrogate, which no valid UTF-8 decodes to,
// is put in front of it. (Validation refuses every string that is not well-formed.)
import { isUtf8 } from 'node:buffer';
import { BinaryReader } from '@bufbuild/protobuf/wire';

const invalidMark = '\udfff';

const decodeUtf8 = (bytes: Uint8Array): string => {
  const text = Buffer.prototype.utf8Slice.call(bytes, 0, bytes.length);
  return text.includes('\ufffd') && !isUtf8(bytes) ? invalidMark + text : text;
};

/**
 * What a generated `requestDeserialize` decodes in place of the bytes.
 * (Its type says Buffer; the decoders take a reader as well, since messages nest.)
 */
export const strictReader = (bytes: Uint8Array): Buffer => new BinaryReader(bytes, decodeUtf8) as unknown as Buffer;
