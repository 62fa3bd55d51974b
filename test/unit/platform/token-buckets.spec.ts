import { expect } from 'chai';
import { array, assert, integer, nat, property } from 'fast-check';
import { networkOf } from '../../../src/platform/network-of.ts';
import { TokenBuckets } from '../../../src/platform/token-buckets.ts';

describe('Token buckets', () => {
  it('let a burst through, then as much as comes back, and tell when that is', () => {
    let now = 0;
    const buckets = new TokenBuckets({ perSecond: 10, burst: 3, maxKeys: 10, now: () => now });
    expect([1, 2, 3, 4].map(() => buckets.take('a'))).to.deep.equal([0, 0, 0, 100]);
    now = 99;
    expect(buckets.take('a')).to.be.closeTo(1, 1e-6);
    now = 100;
    expect(buckets.take('a')).to.equal(0);
    expect(buckets.take('a')).to.be.closeTo(100, 1e-6);
    expect(buckets.take('b')).to.equal(0);
  });

  it('tell whether there is a token without taking it, and owe what is charged beyond that', () => {
    let now = 0;
    const buckets = new TokenBuckets({ perSecond: 10, burst: 3, maxKeys: 10, now: () => now });
    expect([1, 2, 3, 4].map(() => buckets.waitMs('a'))).to.deep.equal([0, 0, 0, 0]);
    for (let time = 0; time < 5; time += 1) buckets.charge('a');
    expect([buckets.waitMs('a'), buckets.take('a')]).to.deep.equal([300, 300]);
    now = 300;
    expect([buckets.waitMs('a'), buckets.take('a'), buckets.waitMs('a')]).to.deep.equal([0, 0, 100]);
  });

  it('let no more through than rate and burst allow, whatever the times', () => {
    assert(
      property(array(nat(500), { maxLength: 200 }), integer({ min: 1, max: 50 }), (gapsMs, burst) => {
        let now = 1e9;
        const start = now;
        const buckets = new TokenBuckets({ perSecond: 20, burst, maxKeys: 3, now: () => now });
        let taken = 0;
        for (const gapMs of gapsMs) {
          now += gapMs;
          if (buckets.take('a') === 0) taken += 1;
          expect(taken).to.be.at.most(burst + ((now - start) / 1000) * 20 + 1e-3);
        }
      }),
    );
  });

  it('are bounded in number, and forget those that were not seen lately', () => {
    let now = 0;
    const buckets = new TokenBuckets({ perSecond: 0.001, burst: 1, maxKeys: 100, now: () => now });
    expect(buckets.take('known')).to.equal(0);
    for (let key = 0; key < 150; key += 1) buckets.take(`k${key}`);
    expect(buckets.take('known')).to.be.above(0);
    for (let key = 0; key < 1000; key += 1) buckets.take(`l${key}`);
    expect(buckets.take('known')).to.equal(0);
    now += 1;
  });

  it('are not there when the rate is 0', () => {
    const buckets = new TokenBuckets({ perSecond: 0, burst: 1, maxKeys: 1 });
    buckets.charge('a');
    expect([1, 2, 3].map(() => buckets.take('a') + buckets.waitMs('a'))).to.deep.equal([0, 0, 0]);
  });
});

describe('The network of an address', () => {
  for (const [address, network] of [
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::1', '0:0:0:0::/64'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:0db8:0000:0002::', '2001:db8:0:2::/64'],
    ['64:ff9b::192.0.2.1', '64:ff9b:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['unknown', 'unknown'],
  ] as const) {
    it(`of ${address} is ${network}`, () => expect(networkOf(address)).to.equal(network));
  }
});
