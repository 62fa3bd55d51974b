import { expect } from 'chai';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import type { CorruptFinding } from '../../../src/storage/damage.ts';
import { memoryBlobStore } from '../../../src/storage/drivers/memory.ts';
import { openStorageOn, type Storage } from '../../../src/storage/open.ts';
import { corruptMarkKey } from '../../../src/storage/paths.ts';
import { scrub } from '../../../src/storage/scrub.ts';
import { errorOf } from '../../contract/blob-store.contract.ts';
import { chunk } from './support/guest-data.ts';

const bytesPerSecond = 1e12;

describe('scrub', () => {
  let objects: Map<string, Uint8Array>;
  let findings: CorruptFinding[];
  let storage: Storage;
  let keys: string[];

  beforeEach(async () => {
    objects = new Map();
    findings = [];
    storage = await openStorageOn(memoryBlobStore(objects), { onCorrupt: (finding) => findings.push(finding) });
    const builder = await storage.layers.build();
    for (const seed of [1, 2, 3]) builder.set(seed, await storage.chunks.store(chunk([1], seed)));
    await builder.flush();
    keys = [...objects.keys()].filter((key) => key !== 'format.json').sort();
  });

  const marks = () => [...objects.keys()].filter((key) => key.startsWith('corrupt/'));

  it('reads every object and finds nothing wrong with a store that is whole', async () => {
    const seen: string[] = [];
    const bytes = keys.reduce((sum, key) => sum + objects.get(key)!.length, 0);
    const result = await scrub({ ...storage, bytesPerSecond, onProgress: ({ key }) => seen.push(key) });
    expect(result).to.deep.equal({ objects: 5, bytes, damaged: 0, damagedKeys: [] });
    expect(seen).to.deep.equal(keys);
    expect(findings).to.deep.equal([]);
  });

  it('finds damage of every kind and marks it, although it was read well before', async () => {
    const damaged = [keys[0]!, keys[2]!, keys[3]!];
    objects.set(damaged[0]!, Buffer.from(objects.get(damaged[0]!)!).fill(7, 5000, 5001));
    objects.set(damaged[1]!, Buffer.concat([objects.get(damaged[1]!)!, Buffer.alloc(1)]));
    objects.set(damaged[2]!, objects.get(damaged[2]!)!.slice(0, 20));
    const result = await scrub({ ...storage, bytesPerSecond });
    expect(result.damagedKeys).to.deep.equal(damaged);
    expect(result).to.include({ objects: 5, damaged: 3 });
    expect(new Set(findings.map(({ kind, address }) => `${kind}/${address.slice(0, 2)}/${address}`))).to.deep.equal(
      new Set(damaged),
    );
    expect(marks().sort()).to.deep.equal(damaged.map(corruptMarkKey));
  });

  it('goes on where it was stopped', async () => {
    const seen: string[] = [];
    await scrub({ ...storage, bytesPerSecond, after: keys[2]!, onProgress: ({ key }) => seen.push(key) });
    expect(seen).to.deep.equal(keys.slice(3));
  });

  it('removes marks of objects that are whole or gone', async () => {
    objects.set(corruptMarkKey(keys[0]!), new Uint8Array(1));
    objects.set(corruptMarkKey(`chunks/00/${'0'.repeat(64)}`), new Uint8Array(1));
    await scrub({ ...storage, bytesPerSecond });
    expect(marks()).to.deep.equal([]);
  });

  it('does not take an object for damaged that is deleted before it is read', async () => {
    const inner = storage.blobs;
    const blobs: BlobStore = {
      put: (...call) => inner.put(...call),
      get: (...call) => inner.get(...call),
      stat: (key) => inner.stat(key),
      delete: (key) => inner.delete(key),
      async *list(prefix) {
        for await (const entry of inner.list(prefix)) {
          if (entry.key === keys[1]) objects.delete(entry.key);
          yield entry;
        }
      },
      [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
    };
    const result = await scrub({ ...storage, blobs, bytesPerSecond }).catch((error: unknown) => error);
    expect(result).to.include({ objects: 4, damaged: 0 });
    expect(findings).to.deep.equal([]);
  });

  it('waits between objects as its rate asks', async () => {
    const seen: string[] = [];
    const controller = new AbortController();
    const stopped = errorOf(
      scrub({ ...storage, bytesPerSecond: 1, signal: controller.signal, onProgress: ({ key }) => seen.push(key) }),
    );
    setTimeout(() => controller.abort(new Error('enough')), 30);
    expect(await stopped).to.have.property('message', 'enough');
    expect(seen.length).to.be.at.most(1);
  });

  it('stops when it is told to', async () => {
    const reason = new Error('enough');
    const controller = new AbortController();
    const stopped = errorOf(
      scrub({ ...storage, bytesPerSecond: 1, signal: controller.signal, onProgress: () => controller.abort(reason) }),
    );
    expect(await stopped).to.equal(reason);
  });
});
