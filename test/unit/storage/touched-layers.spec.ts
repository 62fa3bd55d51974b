import { expect } from 'chai';
import { type PageAddress, parsePageAddress } from '../../../src/storage/address.ts';
import { memoryBlobStore } from '../../../src/storage/drivers/memory.ts';
import { openStorageOn, type Storage } from '../../../src/storage/open.ts';
import { objectKey } from '../../../src/storage/paths.ts';
import { chunksPerLeaf } from '../../../src/storage/sizes.ts';
import { findTouchedLayers } from '../../../src/storage/touched-layers.ts';
import { verifyLayer } from '../../../src/storage/verify-layer.ts';
import { errorOf } from '../../contract/blob-store.contract.ts';
import { chunk } from './support/guest-data.ts';

describe('layers and damage', () => {
  let objects: Map<string, Uint8Array>;
  let storage: Storage;
  /** `shared` has chunks 1 and 2, `other` has 2 and 3, both in leaf pages of their own; `same` has the leaf page of `shared` and another. */
  let roots: { shared: PageAddress; other: PageAddress; same: PageAddress };
  let keys: Record<1 | 2 | 3 | 4, string>;

  beforeEach(async () => {
    objects = new Map();
    storage = await openStorageOn(memoryBlobStore(objects));
    const addresses = await Promise.all([1, 2, 3, 4].map((seed) => storage.chunks.store(chunk([1], seed))));
    const layer = async (entries: [index: number, seed: number][]): Promise<PageAddress> => {
      const builder = await storage.layers.build();
      for (const [index, seed] of entries) builder.set(index, addresses[seed - 1]);
      return parsePageAddress(await builder.flush());
    };
    roots = {
      shared: await layer([
        [0, 1],
        [1, 2],
      ]),
      other: await layer([
        [0, 3],
        [5, 2],
      ]),
      same: await layer([
        [0, 1],
        [1, 2],
        [chunksPerLeaf, 4],
      ]),
    };
    const [first, second, third, fourth] = addresses.map((address) => objectKey('chunks', address!));
    keys = { 1: first!, 2: second!, 3: third!, 4: fourth! };
    // What was read before is not to be in a cache.
    storage = await openStorageOn(memoryBlobStore(objects));
  });

  async function* inUse(): AsyncGenerator<PageAddress> {
    yield* Object.values(roots);
  }

  const touched = async (damaged: string[], { maxObjects = 1000, wasListed = true } = {}) => {
    const { layers, found } = await findTouchedLayers({
      ...storage,
      roots: inUse(),
      damaged: new Set(damaged),
      wasListed: () => wasListed,
      maxObjects,
    });
    const names = Object.entries(roots);
    const named = [...layers].map(([key, of]) => [key, of.map((root) => names.find(([, known]) => known === root)![0])]);
    return { layers: Object.fromEntries(named) as Record<string, string[]>, found: [...found] };
  };

  const leafOf = async (root: PageAddress): Promise<string> => {
    for await (const { kind, address } of storage.layers.reachable(root))
      if (kind === 'pages' && address !== root) return objectKey('pages', address);
    throw new Error('no leaf');
  };

  it('names the layers that need a damaged chunk, whether they share its page or not', async () => {
    expect(await touched([keys[2], keys[3]])).to.deep.equal({
      layers: { [keys[2]]: ['shared', 'other', 'same'], [keys[3]]: ['other'] },
      found: [],
    });
    expect((await touched([keys[4]])).layers).to.deep.equal({ [keys[4]]: ['same'] });
  });

  it('names nobody for what nothing needs', async () => {
    const unused = objectKey('chunks', (await storage.chunks.store(chunk([1], 9)))!);
    expect((await touched([unused])).layers).to.deep.equal({ [unused]: [] });
  });

  it('finds what is missing by looking, also when it was not listed', async () => {
    objects.delete(keys[1]);
    const { layers, found } = await touched([], { wasListed: false });
    expect(layers).to.deep.equal({ [keys[1]]: ['shared', 'same'] });
    expect(found).to.deep.equal([keys[1]]);
  });

  it('names the page itself where a page cannot be read, and goes on with other layers', async () => {
    const leaf = await leafOf(roots.shared);
    objects.set(leaf, Buffer.from(objects.get(leaf)!).fill(7, 20, 21));
    storage = await openStorageOn(memoryBlobStore(objects));
    const { layers, found } = await touched([keys[3]]);
    expect(layers).to.deep.equal({ [leaf]: ['shared', 'same'], [keys[3]]: ['other'] });
    expect(found).to.deep.equal([leaf]);
    const root = objectKey('pages', roots.other);
    objects.delete(root);
    storage = await openStorageOn(memoryBlobStore(objects));
    expect((await touched([], { wasListed: false })).layers)
      .to.include({})
      .and.have.keys(leaf, root);
  });

  it('tells of a bounded number of objects', async () => {
    expect(Object.keys((await touched([keys[1], keys[2], keys[3]], { maxObjects: 2 })).layers).length).to.equal(2);
  });

  describe('verification of one layer', () => {
    it('reads everything once, and tells how far it is', async () => {
      const told: number[] = [];
      await verifyLayer(storage, roots.same, { onProgress: ({ chunks }) => void told.push(chunks) });
      expect(told.at(-1)).to.equal(3);
    });

    for (const what of ['flipped', 'missing', 'longer'] as const)
      it(`fails at a chunk that is ${what}, though it was read well before`, async () => {
        await verifyLayer(storage, roots.other);
        const bytes = objects.get(keys[2])!;
        if (what === 'missing') objects.delete(keys[2]);
        else if (what === 'longer') objects.set(keys[2], Buffer.concat([bytes, Buffer.alloc(1)]));
        else objects.set(keys[2], Buffer.from(bytes).fill(bytes[5000]! ^ 1, 5000, 5001));
        expect(await errorOf(verifyLayer(storage, roots.other))).to.include({ code: 'DATA_LOSS' });
        expect(await errorOf(verifyLayer(storage, roots.shared))).to.include({ code: 'DATA_LOSS' });
      });

    it('fails at a page that is damaged, though it is in the cache', async () => {
      await verifyLayer(storage, roots.shared);
      const leaf = await leafOf(roots.shared);
      objects.set(leaf, Buffer.from(objects.get(leaf)!).fill(7, 20, 21));
      expect(await errorOf(verifyLayer(storage, roots.shared))).to.include({ code: 'DATA_LOSS' });
    });

    it('goes on where it was stopped: what was verified before is not read again', async () => {
      const progress: { objects: number; chunks: number }[] = [];
      await verifyLayer(storage, roots.same, { onProgress: (made) => void progress.push(made) });
      objects.delete(keys[1]);
      await verifyLayer(storage, roots.same, { from: progress.at(-1) });
      expect(await errorOf(verifyLayer(storage, roots.same))).to.include({ code: 'DATA_LOSS' });
    });
  });
});
