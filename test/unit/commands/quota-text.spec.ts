import { expect } from 'chai';
import { describeQuota, parseLimit } from '../../../src/commands/quota-text.ts';

const GiB = 1024 ** 3;

describe('quotas on the command line', () => {
  for (const [quotaId, text, limit] of [
    ['compute.images.count', '0', 0],
    ['compute.images.count', '5', 5],
    ['compute.images.count', '5GiB', undefined],
    ['compute.images.size', '5', 5],
    ['compute.images.size', '5 bytes', 5],
    ['compute.images.size', '500GiB', 500 * GiB],
    ['compute.images.size', '500 GiB', 500 * GiB],
    ['compute.images.size', '2TiB', 2048 * GiB],
    ['compute.images.size', '9007199254740991', Number.MAX_SAFE_INTEGER],
    ['compute.images.size', '9007199254740992', undefined],
    ['compute.images.size', '9000TiB', undefined],
    ['compute.images.size', '500GB', undefined],
    ['compute.images.size', '1.5GiB', undefined],
    ['compute.images.size', '-1', undefined],
    ['compute.images.size', '', undefined],
    ['compute.images.size', 'unlimited', 'unlimited'],
    ['all', 'default', 'default'],
  ] as const)
    it(`reads ${JSON.stringify(text)} as ${limit ?? 'no limit'} of ${quotaId}`, () => {
      expect(parseLimit(quotaId, text)).to.equal(limit);
    });

  it('shows exact numbers, in the units that it reads', () => {
    const size = (usage: number, limit?: number) => describeQuota({ quotaId: 'compute.images.size', usage, limit });
    expect(size(0, 1024 * GiB)).to.equal('compute.images.size: 0 bytes of 1 TiB\n');
    expect(size(1536 * 1024 ** 2, 500 * GiB)).to.equal('compute.images.size: 1536 MiB of 500 GiB\n');
    expect(size(GiB + 1)).to.equal('compute.images.size: 1073741825 bytes of unlimited\n');
    expect(describeQuota({ quotaId: 'compute.images.count', usage: 1024, limit: 2048 })).to.equal(
      'compute.images.count: 1024 of 2048\n',
    );
  });
});
