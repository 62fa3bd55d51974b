import { expect } from 'chai';
import { TableCache, type TablePiece } from '../../../src/formats/table-cache.ts';
import { type ByteSource, memorySource } from '../../../src/platform/byte-source.ts';

const file = Buffer.from(Array.from({ length: 1 << 20 }, (_, index) => (index >> 10) & 255));

function counted(): ByteSource & { reads: [number, number][] } {
  const reads: [number, number][] = [];
  const source = memorySource(file);
  return { ...source, reads, read: (target, offset) => (reads.push([offset, target.length]), source.read(target, offset)) };
}

const piece = (index: number, at = index * 1024, length = 1024): TablePiece => ({ index, at, length });

async function take(cache: TableCache, pieces: TablePiece[]): Promise<[number, number][]> {
  const taken: [number, number][] = [];
  for await (const { index, bytes } of cache.inOrder(pieces.values())) {
    expect(bytes).to.have.length(pieces.find((each) => each.index === index)!.length);
    taken.push([index, bytes[0]!]);
  }
  return taken;
}

describe('TableCache', () => {
  it('answers pieces in the order they are wanted, wherever they lie', async () => {
    const pieces = [7, 3, 900, 4, 5, 1000].map((index) => piece(index));
    expect(await take(new TableCache(counted(), 1 << 20), pieces)).to.deep.equal(pieces.map(({ index }) => [index, index & 255]));
  });

  it('reads neighbours together and far ones apart', async () => {
    const source = counted();
    await take(
      new TableCache(source, 1 << 20),
      [10, 11, 12, 500].map((index) => piece(index)),
    );
    expect(source.reads).to.deep.equal([
      [10 * 1024, 3 * 1024],
      [500 * 1024, 1024],
    ]);
  });

  it('keeps what fits and reads the rest again, the least recently used first', async () => {
    const source = counted();
    const cache = new TableCache(source, 4096);
    const far = (index: number): TablePiece => piece(index, index * 100 * 1024);
    await take(cache, [1, 2, 3, 4].map(far));
    await take(cache, [far(1)]);
    await take(cache, [far(5)]);
    source.reads.length = 0;
    await take(cache, [1, 3, 4, 5].map(far));
    expect(source.reads).to.deep.equal([]);
    await take(cache, [far(2)]);
    expect(source.reads).to.have.length(1);
  });

  it('holds no more than its bound ahead of the walk, however many pieces are wanted', async () => {
    const source = counted();
    const cache = new TableCache(source, 8192);
    let drawn = 0;
    function* wanted(): Generator<TablePiece> {
      for (let index = 0; index < 1000; index += 1) {
        drawn += 1;
        yield piece(index);
      }
    }
    let taken = 0;
    for await (const _ of cache.inOrder(wanted())) {
      taken += 1;
      expect(drawn - taken).to.be.at.most(9);
    }
    expect(taken).to.equal(1000);
  });

  it('throws where the piece that could not be read is taken, and reads it again the next time', async () => {
    const source = memorySource(file);
    let isBroken = true;
    const cache = new TableCache(
      {
        ...source,
        read: (target, offset) =>
          isBroken && offset === 500 * 1024 ? Promise.reject(new Error('broken')) : source.read(target, offset),
      },
      1 << 20,
    );
    const seen: number[] = [];
    const walk = async (): Promise<void> => {
      for await (const { index } of cache.inOrder([1, 500, 2].map((each) => piece(each)).values())) seen.push(index);
    };
    await walk().then(
      () => expect.fail('read'),
      (error: Error) => expect(error.message).to.equal('broken'),
    );
    expect(seen).to.deep.equal([1]);
    isBroken = false;
    await walk();
    expect(seen).to.deep.equal([1, 1, 500, 2]);
  });

  it('serves walks at the same time', async () => {
    const cache = new TableCache(counted(), 16_384);
    const walks = Array.from({ length: 20 }, (_, walk) =>
      Array.from({ length: 50 }, (_each, index) => piece((index * 7 + walk) % 1000)),
    );
    for (const [index, taken] of (await Promise.all(walks.map((pieces) => take(cache, pieces)))).entries())
      expect(taken).to.deep.equal(walks[index]!.map((each) => [each.index, each.index & 255]));
  });
});
