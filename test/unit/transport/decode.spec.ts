import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { expect } from 'chai';
import * as fc from 'fast-check';
import { CreateImageRequest, ImageServiceService } from '../../../generated/yandex/cloud/compute/v1/image_service.ts';
import { strictReader } from '../../../src/transport/decode.ts';

const decode = (bytes: Uint8Array): CreateImageRequest => ImageServiceService.create.requestDeserialize(strictReader(bytes));

describe('Decoding a request', () => {
  it('gives what the generated decoder gives for every well-formed message', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 300 }),
        fc.dictionary(fc.string({ unit: 'grapheme', minLength: 1 }), fc.string({ unit: 'grapheme' }), { noNullPrototype: true }),
        fc.bigInt(0n, 2n ** 63n - 1n),
        (description, labels, minDiskSize) => {
          fc.pre(!Object.hasOwn(labels, '__proto__'));
          const bytes = CreateImageRequest.encode(CreateImageRequest.fromPartial({ description, labels, minDiskSize })).finish();
          expect(decode(bytes)).to.deep.equal(CreateImageRequest.decode(bytes));
        },
      ),
    );
  });

  it('keeps a character U+FFFD that was really sent', () => {
    const bytes = CreateImageRequest.encode(CreateImageRequest.fromPartial({ description: 'a \ufffd b' })).finish();
    expect(decode(bytes).description).to.equal('a \ufffd b');
  });

  for (const [what, invalid] of [
    ['a stray byte', [0x61, 0xff, 0x62]],
    ['a sequence cut short', [0xe2, 0x82]],
    ['an overlong form', [0xc0, 0x80]],
    ['an encoded surrogate', [0xed, 0xa0, 0x80]],
  ] as const) {
    it(`marks ${what} as text that is not well-formed, in fields and in keys of maps`, () => {
      const bytes = Uint8Array.from(invalid);
      const entry = new BinaryWriter().uint32(10).bytes(bytes).uint32(18).string('value').finish();
      const request = decode(new BinaryWriter().uint32(26).bytes(bytes).uint32(34).bytes(entry).finish());
      expect(request.description.isWellFormed()).to.equal(false);
      expect(Object.keys(request.labels).map((key) => key.isWellFormed())).to.deep.equal([false]);
    });
  }
});
