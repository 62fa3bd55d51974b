import { createHash } from 'node:crypto';
import { expect } from 'chai';
import * as fc from 'fast-check';
import type { ChunkAddress, PageAddress } from '../../../src/storage/address.ts';
import { PageCorruptError } from '../../../src/storage/damage.ts';
import { memoryBlobStore } from '../../../src/storage/drivers/memory.ts';
import { addedBytes, storedBytes } from '../../../src/storage/layer-size.ts';
import { Layers } from '../../../src/storage/layers.ts';
import { PageStore } from '../../../src/storage/page-store.ts';
import { pageKey } from '../../../src/storage/paths.ts';
import { chunkBytes, chunksPerLeaf, maxLayerChunks } from '../../../src/storage/sizes.ts';
import { errorOf } from '../../contract/blob-store.contract.ts';
import { counting } from './support/places.ts';

const address = (seed: number) => createHash('sha256').update(`chunk ${seed}`).digest('hex') as ChunkAddress;
const index = fc.oneof(fc.nat(40), fc.constantFrom(1023, 1024, 2048, maxLayerChunks - 1), fc.nat(maxLayerChunks - 1));
const entries = fc.array(fc.tuple(index, fc.nat(3)), { maxLength: 40 });

describe('the difference of two layers', () => {
  let objects: Map<string, Uint8Array>;

  beforeEach(() => (objects = new Map()));

  const open = () => new Layers(new PageStore({ blobs: memoryBlobStore(objects) }));

  const build = async (map: Iterable<readonly [number, number]>, base?: PageAddress): Promise<PageAddress> => {
    const builder = await open().build(base);
    for (const [at, value] of map) builder.set(at, value === 0 ? undefined : address(value));
    return builder.flush();
  };

  it('counts what is new or changed and not zeros, as a walk over both does', async () => {
    await fc.assert(
      fc.asyncProperty(entries, entries, async (first, changes) => {
        const before = await build(first);
        const after = await build(changes, before);
        const was = new Map([...new Map(first)].filter(([, value]) => value !== 0));
        const is = new Map([...was, ...changes]);
        const expected = [...is].filter(([at, value]) => value !== 0 && was.get(at) !== value).length;
        const layers = open();
        expect(await layers.countChanged(before, after)).to.equal(expected);
        expect(await addedBytes(layers, before, after)).to.equal(expected * chunkBytes);
        const held = [...is.values()].filter((value) => value !== 0).length;
        expect(await addedBytes(layers, null, after)).to.equal(held * chunkBytes);
        expect(await storedBytes(layers, after)).to.equal(held * chunkBytes);
      }),
      { numRuns: 100 },
    );
  });

  it('is nothing for zeros, and for a layer and itself', async () => {
    const root = await build([[3, 1]]);
    const layers = open();
    expect(await storedBytes(layers, null)).to.equal(0);
    expect(await addedBytes(layers, root, null)).to.equal(0);
    expect(await addedBytes(layers, root, root)).to.equal(0);
  });

  it('reads the leaves that differ, and no others', async () => {
    const leaves = Array.from({ length: 200 }, (_, leaf) => [leaf * chunksPerLeaf, leaf + 1] as const);
    const before = await build(leaves);
    const after = await build([[150 * chunksPerLeaf + 5, 999]], before);
    const { store, counts } = counting(memoryBlobStore(objects));
    expect(await new Layers(new PageStore({ blobs: store })).countChanged(before, after)).to.equal(1);
    // Two roots, two leaves.
    expect(counts.get).to.equal(4);
  });

  it('says so when a page is missing, and stops when it is told to', async () => {
    const before = await build([[1, 1]]);
    const after = await build([[1, 2]], before);
    const aborted = AbortSignal.abort(new Error('enough'));
    expect(await errorOf(open().countChanged(before, after, aborted))).to.have.property('message', 'enough');
    objects.delete(pageKey(before));
    expect(await errorOf(open().countChanged(before, after))).to.be.instanceOf(PageCorruptError);
  });
});
