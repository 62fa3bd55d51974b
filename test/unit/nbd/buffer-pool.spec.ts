import { expect } from 'chai';
import { BufferPool, headroomBytes } from '../../../src/nbd/buffer-pool.ts';

describe('The buffers of NBD connections', () => {
  it('are used again, and counted while they are lent', () => {
    const pool = new BufferPool({ maxLentBytes: 2 ** 20, maxKeptBytes: 2 ** 20 });
    const buffer = pool.take(5000);
    expect(buffer).to.have.length(8192 + headroomBytes);
    expect(pool.take(8192)).to.have.length(buffer.length).and.not.equal(buffer);
    expect(pool.lentBytes).to.equal(2 * buffer.length);
    pool.give(buffer);
    expect(pool.lentBytes).to.equal(buffer.length);
    expect(pool.take(4097)).to.equal(buffer);
    expect(pool.take(0)).to.have.length(4096 + headroomBytes);
    expect(pool.take(2 ** 25)).to.have.length(2 ** 25 + headroomBytes);
  });

  it('let those wait who find none, in their order', () => {
    const pool = new BufferPool({ maxLentBytes: 8192, maxKeptBytes: 0 });
    const lent = [pool.take(4096), pool.take(4096)];
    expect(pool.hasRoom()).to.equal(false);
    const woken: string[] = [];
    const never = (): void => void woken.push('never');
    const much = (): number => 4096;
    pool.waitForRoom(never, much);
    pool.waitForRoom(() => {
      woken.push('first');
      lent.push(pool.take(8192));
    }, much);
    pool.waitForRoom(() => void woken.push('second'), much);
    pool.stopWaiting(never);
    expect(pool.isShort).to.equal(true);
    pool.give(lent.shift()!);
    expect(woken).to.deep.equal(['first']);
    pool.give(lent.shift()!);
    expect(woken).to.deep.equal(['first']);
    pool.give(lent.shift()!);
    expect(woken).to.deep.equal(['first', 'second']);
    expect(pool.isShort).to.equal(false);
    expect(pool.lentBytes).to.equal(0);
  });

  it('keep a reserve for those who hold nothing', () => {
    const pool = new BufferPool({ maxLentBytes: 8192, maxKeptBytes: 0, reservedBytes: 4096 });
    const most = pool.take(8192);
    expect(pool.hasRoom(1)).to.equal(false);
    expect(pool.hasRoom()).to.equal(false);
    expect(pool.hasRoom(0)).to.equal(true);
    const reserve = pool.take(4096);
    expect(pool.hasRoom(0)).to.equal(false);
    // Who holds nothing is woken when the reserve has room again; the others when there is room for all.
    const woken: string[] = [];
    const busy = (): void => void woken.push('busy');
    for (let time = 0; time < 3; time += 1) pool.waitForRoom(busy, () => 1);
    pool.waitForRoom(
      () => void woken.push('idle'),
      () => 0,
    );
    pool.give(reserve);
    expect(woken).to.deep.equal(['idle']);
    pool.give(most);
    expect(woken).to.deep.equal(['idle', 'busy']);
    expect(pool.isShort).to.equal(false);
  });
});
