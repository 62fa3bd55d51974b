import { expect } from 'chai';
import { decodeRequest, emptyRequest } from '../../../src/nbd/request-codec.ts';
import { type Refusal, refusal, transmissionFlags } from '../../../src/nbd/request-rules.ts';
import { request } from '../../support/nbd-client.ts';

describe('The rules for NBD requests', () => {
  const writable = { sizeBytes: 2 ** 30, readOnly: false, multiConn: false };
  const readOnly = { ...writable, readOnly: true, multiConn: true };
  const simple = { structuredReplies: false, blockStatus: false };
  const structured = { structuredReplies: true, blockStatus: true };

  it('announce what the export can do', () => {
    expect(transmissionFlags(writable, false)).to.equal(0b1000_0110_1101);
    expect(transmissionFlags(writable, true)).to.equal(0b1000_1110_1101);
    expect(transmissionFlags(readOnly, true)).to.equal(0b0001_1000_1111);
  });

  const MiB = 2 ** 20;
  const cases: [string, Parameters<typeof request>, Refusal['code'] | undefined, typeof writable?, typeof simple?][] = [
    ['a read', ['read', { length: 512, offset: 1 }], undefined],
    ['a read with FUA, which means nothing', ['read', { length: 512, flags: 1 }], undefined],
    ['a read of nothing at the end', ['read', { offset: 2 ** 30 }], undefined],
    ['a read past the end', ['read', { offset: 2 ** 30 - 1, length: 2 }], 'EINVAL'],
    ['a read far outside', ['read', { offset: 2n ** 64n - 1n, length: 1 }], 'EINVAL'],
    ['a read of 32 MiB', ['read', { length: 32 * MiB }], undefined],
    ['a read of more than 32 MiB', ['read', { length: 32 * MiB + 1 }], 'EOVERFLOW'],
    ['a read that must not be split', ['read', { length: 512, flags: 4 }], undefined, writable, structured],
    ['DF without structured replies', ['read', { length: 512, flags: 4 }], 'EINVAL'],
    ['an unknown flag', ['read', { length: 512, flags: 0x20 }], 'EINVAL'],
    ['a durable write', ['write', { length: 512, flags: 1 }], undefined],
    ['a write past the end', ['write', { offset: 2 ** 30 - 1, length: 2 }], 'ENOSPC'],
    ['a write of more than 32 MiB', ['write', { length: 32 * MiB + 1 }], 'EINVAL'],
    ['a write that must not be split', ['write', { length: 512, flags: 4 }], 'EINVAL', writable, structured],
    ['a write to a read-only export', ['write', { length: 512 }], 'EPERM', readOnly],
    ['a trim of a read-only export', ['trim', { length: 512 }], 'EPERM', readOnly],
    ['zeroes for a read-only export', ['writeZeroes', { length: 512 }], 'EPERM', readOnly],
    ['zeroes of the whole export', ['writeZeroes', { length: 2 ** 30, flags: 0b1_0011 }], undefined],
    ['zeroes past the end', ['writeZeroes', { offset: 512, length: 2 ** 30 }], 'ENOSPC'],
    ['a trim of the whole export', ['trim', { length: 2 ** 30, flags: 1 }], undefined],
    ['a trim past the end', ['trim', { offset: 512, length: 2 ** 30 }], 'EINVAL'],
    ['a flush', ['flush'], undefined],
    ['a flush of a read-only export', ['flush'], undefined, readOnly],
    ['a flush of a range', ['flush', { length: 512 }], 'EINVAL'],
    ['a block status', ['blockStatus', { length: 2 ** 30, flags: 8 }], undefined, readOnly, structured],
    ['a block status without a context', ['blockStatus', { length: 512 }], 'EINVAL'],
    ['a block status of nothing', ['blockStatus'], 'EINVAL', writable, structured],
    ['a block status past the end', ['blockStatus', { offset: 512, length: 2 ** 30 }], 'EINVAL', writable, structured],
    ['a request to cache', ['cache', { length: 512 }], 'EINVAL'],
    ['an unknown command', [8, { length: 512 }], 'EINVAL'],
    ['a command of 16 bits', [0xffff], 'EINVAL'],
  ];
  for (const [what, args, code, device = writable, agreed = simple] of cases) {
    it(`${code === undefined ? 'let through' : `refuse with ${code}`} ${what}`, () => {
      const into = emptyRequest();
      decodeRequest(request(...args), 0, into);
      expect(refusal(into, device, agreed)?.code).to.equal(code);
    });
  }
});
