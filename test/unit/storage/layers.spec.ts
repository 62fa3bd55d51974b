import { createHash } from 'node:crypto';
import { expect } from 'chai';
import * as fc from 'fast-check';
import { TransientError } from '../../../src/platform/errors.ts';
import type { ChunkAddress, PageAddress } from '../../../src/storage/address.ts';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import { type CorruptFinding, PageCorruptError } from '../../../src/storage/damage.ts';
import { memoryBlobStore } from '../../../src/storage/drivers/memory.ts';
import { Layers } from '../../../src/storage/layers.ts';
import { PageStore } from '../../../src/storage/page-store.ts';
import { corruptMarkKey, pageKey } from '../../../src/storage/paths.ts';
import { maxLayerChunks } from '../../../src/storage/sizes.ts';
import { collect, errorOf } from '../../contract/blob-store.contract.ts';
import { counting } from './support/places.ts';

const address = (seed: number) => createHash('sha256').update(`chunk ${seed}`).digest('hex') as ChunkAddress;
/** Indexes that crowd at the edges of leaves and of the whole. */
const index = fc.oneof(
  fc.nat(5000),
  fc.constantFrom(0, 1023, 1024, 2047, 2048, maxLayerChunks - 1024, maxLayerChunks - 1),
  fc.nat(maxLayerChunks - 1),
);
type Step =
  | { kind: 'set'; index: number; value: number }
  | { kind: 'unset'; index: number }
  | { kind: 'flush' }
  | { kind: 'reopen' };
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('set' as const), index, value: fc.nat(50) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('unset' as const), index }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('flush' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reopen' as const) }) },
);

describe('layers', () => {
  let objects: Map<string, Uint8Array>;
  let findings: CorruptFinding[];

  beforeEach(() => {
    objects = new Map();
    findings = [];
  });

  const openLayers = (blobs: BlobStore = memoryBlobStore(objects)) =>
    new Layers(new PageStore({ blobs, onCorrupt: (finding) => findings.push(finding) }));

  const build = async (entries: Iterable<readonly [number, ChunkAddress | undefined]>, base?: PageAddress) => {
    const builder = await openLayers().build(base);
    for (const [at, value] of entries) builder.set(at, value);
    return builder.flush();
  };

  const contents = async (root: PageAddress) => collect((await openLayers().open(root)).entries());

  it('hold what was set, whatever was flushed and reopened on the way', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), index, async (steps, from) => {
        const model = new Map<number, ChunkAddress>();
        const seen: [PageAddress, Map<number, ChunkAddress>][] = [];
        let builder = await openLayers().build();
        for (const action of [...steps, { kind: 'flush' } as const]) {
          if (action.kind === 'set') {
            builder.set(action.index, address(action.value));
            model.set(action.index, address(action.value));
          } else if (action.kind === 'unset') {
            builder.set(action.index, undefined);
            model.delete(action.index);
          } else {
            const root = await builder.flush();
            seen.push([root, new Map(model)]);
            if (action.kind === 'reopen') builder = await openLayers().build(root);
          }
        }
        for (const [root, expected] of seen) {
          const layer = await openLayers().open(root);
          const sorted = [...expected].sort(([a], [b]) => a - b);
          expect(layer.chunkCount).to.equal(expected.size);
          expect(await collect(layer.entries())).to.deep.equal(sorted);
          expect(await collect(layer.entries(from))).to.deep.equal(sorted.filter(([at]) => at >= from));
          for (const at of [from, ...expected.keys()]) expect(await layer.lookup(at)).to.equal(expected.get(at));
          // The same content has the same root, however it came about.
          expect(await build(sorted.reverse())).to.equal(root);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('share the leaves that did not change', async () => {
    const base = await build(Array.from({ length: 5000 }, (_, at) => [at, address(at)]));
    const before = new Set(objects.keys());
    expect(before.size).to.equal(6);
    const next = await build([[3000, address(7)]], base);
    expect(objects.size).to.equal(before.size + 2);
    expect(await build([[3000, address(3000)]], next)).to.equal(base);
    expect(objects.size).to.equal(before.size + 2);
    expect(await build([], base)).to.equal(base);
  });

  it('share equal stretches at different places', async () => {
    await build([0, 1, 2, 3].flatMap((leaf) => [[leaf * 1024 + 5, address(1)] as const, [leaf * 1024 + 6, address(2)] as const]));
    expect(objects.size).to.equal(2);
  });

  it('of nothing are a layer too', async () => {
    const empty = await build([]);
    expect(await contents(empty)).to.deep.equal([]);
    expect((await openLayers().open(empty)).chunkCount).to.equal(0);
    const filled = await build([[5, address(5)]], empty);
    expect(await build([[5, undefined]], filled)).to.equal(empty);
  });

  it('refuse indexes that no disk has', async () => {
    const builder = await openLayers().build();
    const layer = await openLayers().open(await builder.flush());
    for (const wrong of [-1, 0.5, maxLayerChunks, Number.NaN]) {
      expect(() => builder.set(wrong, address(1))).to.throw(RangeError);
      expect(await errorOf(layer.lookup(wrong))).to.be.instanceOf(RangeError);
    }
  });

  it('are written in the background when many leaves change, and hold memory for few', async () => {
    const { store: blobs, counts } = counting(memoryBlobStore(objects));
    const builder = await openLayers(blobs).build();
    for (let leaf = 0; leaf < 1000; leaf += 1) {
      builder.set(leaf * 1024, address(leaf));
      if (leaf % 50 === 49) await builder.drained();
    }
    expect(counts.put).to.be.greaterThan(800);
    builder.set(0, address(12345));
    const root = await builder.flush();
    const expected = Array.from({ length: 1000 }, (_, leaf) => [leaf * 1024, address(leaf === 0 ? 12345 : leaf)]);
    expect(await contents(root)).to.deep.equal(expected);
  });

  it('lose nothing that is set while a flush runs, and answer at least what was set before', async () => {
    const builder = await openLayers().build();
    for (let at = 0; at < 4000; at += 7) builder.set(at, address(at));
    const flushes = [builder.flush()];
    for (let at = 1; at < 4000; at += 7) {
      builder.set(at, address(at));
      if (at % 1000 === 1) flushes.push(builder.flush());
      if (at % 100 === 1) await Promise.resolve();
    }
    const roots = await Promise.all(flushes);
    const first = new Map(await contents(roots[0]!));
    for (let at = 0; at < 4000; at += 7) expect(first.get(at)).to.equal(address(at));
    const last = await contents(await builder.flush());
    expect(last).to.have.length(Math.ceil(4000 / 7) + Math.ceil(3999 / 7));
  });

  it('lose nothing when pages cannot be written for a while', async () => {
    let away = false;
    let calls = 0;
    const inner = memoryBlobStore(objects);
    const put: BlobStore['put'] = (...call) =>
      away && (calls += 1) % 10 < 7 ? Promise.reject(new TransientError('away')) : inner.put(...call);
    const blobs: BlobStore = {
      put,
      get: inner.get.bind(inner),
      stat: inner.stat.bind(inner),
      delete: inner.delete.bind(inner),
      list: inner.list.bind(inner),
      [Symbol.asyncDispose]: async () => {},
    };
    const builder = await openLayers(blobs).build();
    const model = new Map<number, ChunkAddress>();
    for (let round = 0; round < 20; round += 1) {
      away = round < 19;
      for (let count = 0; count < 40; count += 1) {
        const at = (round * 37 + count * 911) % 200_000;
        builder.set(at, address(round));
        model.set(at, address(round));
      }
      const outcome = await builder.flush().catch((error: unknown) => error);
      if (outcome instanceof Error) expect(outcome).to.be.instanceOf(TransientError);
      else expect(await contents(outcome as PageAddress)).to.deep.equal([...model].sort(([a], [b]) => a - b));
    }
    expect(await contents(await builder.flush())).to.deep.equal([...model].sort(([a], [b]) => a - b));
  });

  it('answer an error and no address when any bit of a page is wrong', async () => {
    const root = await build([
      [1, address(1)],
      [1500, address(2)],
      [1501, address(3)],
    ]);
    const whole = new Map(objects);
    for (const [key, page] of whole)
      for (let bit = 0; bit < page.length * 8; bit += 1 + (bit % 5)) {
        const damaged = Buffer.from(page);
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        objects.set(key, damaged);
        expect(await errorOf(contents(root)), `${key} bit ${bit}`).to.be.instanceOf(PageCorruptError);
        objects.clear();
        for (const [name, bytes] of whole) objects.set(name, bytes);
      }
  });

  it('answer an error when a page is cut short, too long or gone', async () => {
    const root = await build([[1, address(1)]]);
    const keys = [...objects.keys()];
    for (const key of keys) {
      const page = objects.get(key)!;
      for (const damaged of [undefined, page.subarray(0, page.length - 1), page.subarray(0, 0), Buffer.alloc(10_000_000)]) {
        if (damaged === undefined) objects.delete(key);
        else objects.set(key, damaged);
        expect(await errorOf(contents(root)))
          .to.be.instanceOf(PageCorruptError)
          .with.property('code', 'DATA_LOSS');
        objects.set(key, page);
      }
    }
    expect(await contents(root)).to.have.length(1);
  });

  it('are repaired by the next writer of a damaged page', async () => {
    const root = await build([[1, address(1)]]);
    const page = objects.get(pageKey(root))!;
    objects.set(pageKey(root), Buffer.from(page).fill(0, 40, 41));
    expect(await errorOf(contents(root))).to.be.instanceOf(PageCorruptError);
    expect(objects.has(corruptMarkKey(pageKey(root)))).to.equal(true);
    expect(await build([[1, address(1)]])).to.equal(root);
    expect(await contents(root)).to.have.length(1);
    expect(objects.has(corruptMarkKey(pageKey(root)))).to.equal(false);
  });

  it('do not take a leaf for a root', async () => {
    const root = await build([[1, address(1)]]);
    const leaf = [...objects.keys()].map((key) => key.slice(-64)).find((name) => name !== root)! as PageAddress;
    expect(await errorOf(openLayers().open(leaf))).to.be.instanceOf(PageCorruptError);
  });

  it('tell every object that they need', async () => {
    const shared = [
      [1, address(1)],
      [1024 + 1, address(1)],
      [9000, address(9)],
    ] as const;
    const root = await build(shared);
    const reached = await collect(openLayers().reachable(root));
    expect(
      new Set(reached.filter(({ kind }) => kind === 'pages').map(({ address: name }) => pageKey(name as PageAddress))),
    ).to.deep.equal(new Set(objects.keys()));
    expect(reached.filter(({ kind }) => kind === 'chunks').map(({ address: name }) => name)).to.deep.equal([
      address(1),
      address(1),
      address(9),
    ]);
    const seen = new Set<string>();
    const once = await collect(openLayers().reachable(root, { skipPage: (page) => seen.size === seen.add(page).size }));
    expect(once.map(({ kind }) => kind)).to.deep.equal(['pages', 'pages', 'chunks', 'pages', 'chunks']);
  });

  it('read a page once for many lookups', async () => {
    const root = await build(Array.from({ length: 3000 }, (_, at) => [at, address(at)]));
    const { store: blobs, counts } = counting(memoryBlobStore(objects));
    const layer = await openLayers(blobs).open(root);
    await Promise.all(Array.from({ length: 3000 }, (_, at) => layer.lookup(at)));
    expect(counts.get).to.equal(4);
  });
});
