import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { TransientError } from '../../../../src/platform/errors.ts';
import type { BlobStore } from '../../../../src/storage/blob-store.ts';
import { cached } from '../../../../src/storage/decorators/cached.ts';
import { limited } from '../../../../src/storage/decorators/limited.ts';
import { retrying } from '../../../../src/storage/decorators/retrying.ts';
import { memoryBlobStore } from '../../../../src/storage/drivers/memory.ts';
import { errorOf, text } from '../../../contract/blob-store.contract.ts';
import { counting } from '../support/places.ts';

/** A memory store whose calls pass through `around`. */
function hooked(around: (method: string) => Promise<void>, objects = new Map<string, Uint8Array>()): BlobStore {
  const inner = memoryBlobStore(objects);
  return {
    put: async (...call) => (await around('put'), inner.put(...call)),
    get: async (...call) => (await around('get'), inner.get(...call)),
    stat: async (key) => (await around('stat'), inner.stat(key)),
    delete: async (key) => (await around('delete'), inner.delete(key)),
    list: (prefix) => inner.list(prefix),
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  };
}

describe('limited blob store', () => {
  it('lets no more calls through than it should, reads beside writes', async () => {
    const running = { put: 0, get: 0 };
    const most = { put: 0, get: 0 };
    const store = limited(
      hooked(async (method) => {
        const kind = method === 'put' || method === 'delete' ? 'put' : 'get';
        running[kind] += 1;
        most[kind] = Math.max(most[kind], running[kind]);
        await sleep(2);
        running[kind] -= 1;
      }),
      { writes: 2, reads: 3 },
    );
    await Promise.all(Array.from({ length: 12 }, (_, index) => store.put(`a/${index}`, [text('x')])));
    await Promise.all([
      ...Array.from({ length: 12 }, (_, index) => store.get(`a/${index}`)),
      ...Array.from({ length: 6 }, (_, index) => store.stat(`a/${index}`)),
      ...Array.from({ length: 6 }, (_, index) => store.delete(`b/${index}`)),
    ]);
    expect(most).to.deep.equal({ put: 2, get: 3 });
  });

  it('lets a waiting call be aborted, and gives its place to the next', async () => {
    const gate = Promise.withResolvers<void>();
    const store = limited(
      hooked(() => gate.promise),
      { writes: 1, reads: 1 },
    );
    const first = store.put('first', [text('x')]);
    const reason = new Error('enough');
    const controller = new AbortController();
    const second = errorOf(store.put('second', [text('x')], { signal: controller.signal }));
    const third = store.put('third', [text('x')]);
    controller.abort(reason);
    expect(await second).to.equal(reason);
    gate.resolve();
    await Promise.all([first, third]);
    expect(await store.stat('second')).to.equal(undefined);
  });

  it('gives places back after failures', async () => {
    const store = limited(
      hooked(() => Promise.reject(new TransientError('away'))),
      { writes: 1, reads: 1 },
    );
    for (let index = 0; index < 5; index += 1) expect(await errorOf(store.get('key'))).to.be.instanceOf(TransientError);
  });
});

describe('retrying blob store', () => {
  const retries = { attempts: 4, firstPauseMs: 1, maxPauseMs: 2 };

  it('repeats what may work later, and no more often than told', async () => {
    let calls = 0;
    const failing = (times: number) => {
      calls = 0;
      return retrying(
        hooked(() => ((calls += 1), calls <= times ? Promise.reject(new TransientError('away')) : Promise.resolve())),
        retries,
      );
    };
    await failing(3).put('key', [text('x')]);
    expect(calls).to.equal(4);
    const error = await errorOf(failing(4).put('key', [text('x')]));
    expect(error).to.be.instanceOf(TransientError).with.property('message', 'away');
    expect(calls).to.equal(4);
  });

  it('does not repeat what can never work', async () => {
    const { store, counts } = counting(memoryBlobStore());
    await errorOf(retrying(store, retries).get('missing'));
    await store.put('short', [text('x')]);
    await errorOf(retrying(store, retries).get('short', { offset: 0, length: 2 }));
    expect(counts.get).to.equal(2);
  });

  it('does not repeat a put whose bytes were taken', async () => {
    const puts: number[] = [];
    const inner: BlobStore = {
      ...hooked(() => Promise.resolve()),
      put: (_key, parts, { onTaken } = {}) => {
        puts.push(parts[0]![0]!);
        if (puts.length === 2) onTaken!();
        return Promise.reject(new TransientError('away'));
      },
    };
    const part = text('x');
    const error = await errorOf(retrying(inner, retries).put('key', [part], { onTaken: () => void part.fill(0) }));
    expect(error).to.be.instanceOf(TransientError);
    expect(puts).to.deep.equal([0x78, 0x78]);
  });

  it('draws every pause anew', async () => {
    const drawn: number[] = [];
    const random = () => (drawn.push(performance.now()), 0);
    await errorOf(
      retrying(
        hooked(() => Promise.reject(new TransientError('away'))),
        { attempts: 6, firstPauseMs: 1, maxPauseMs: 4, random },
      ).stat('key'),
    );
    expect(drawn).to.have.length(5);
  });

  it('stops waiting when it is aborted', async () => {
    const reason = new Error('enough');
    const controller = new AbortController();
    const store = retrying(
      hooked(() => Promise.reject(new TransientError('away'))),
      { attempts: 2, firstPauseMs: 3_600_000, maxPauseMs: 3_600_000, random: () => 1 },
    );
    const get = errorOf(store.get('key', undefined, { signal: controller.signal }));
    await sleep(5);
    controller.abort(reason);
    expect(await get).to.equal(reason);
  });
});

describe('cached blob store', () => {
  it('asks for a range once, and answers the same bytes', async () => {
    const { store: inner, counts } = counting(memoryBlobStore());
    const store = cached(inner, 1000);
    await store.put('key', [text('0123456789')]);
    for (let round = 0; round < 3; round += 1) {
      expect(Buffer.from(await store.get('key', { offset: 2, length: 3 })).toString()).to.equal('234');
      expect(Buffer.from(await store.get('key')).toString()).to.equal('0123456789');
    }
    expect(counts.get).to.equal(2);
  });

  it('asks once for what many want at the same time', async () => {
    let calls = 0;
    const objects = new Map<string, Uint8Array>([['key', text('x')]]);
    const store = cached(
      hooked(async () => ((calls += 1), await sleep(2)), objects),
      1000,
    );
    await Promise.all(Array.from({ length: 10 }, () => store.get('key')));
    expect(calls).to.equal(1);
  });

  it('keeps no more bytes than it should, the latest ones', async () => {
    const { store: inner, counts } = counting(memoryBlobStore());
    const store = cached(inner, 100);
    for (let index = 0; index < 5; index += 1) await store.put(`key/${index}`, [Buffer.alloc(30)]);
    for (let index = 0; index < 5; index += 1) await store.get(`key/${index}`);
    counts.get = 0;
    for (const index of [2, 3, 4]) await store.get(`key/${index}`);
    expect(counts.get).to.equal(0);
    await store.get('key/0');
    expect(counts.get).to.equal(1);
    await store.put('big', [Buffer.alloc(101)]);
    await store.get('big');
    await store.get('big');
    expect(counts.get).to.equal(3);
  });

  it('forgets an object that is replaced or deleted, also while it is read', async () => {
    const gate = Promise.withResolvers<void>();
    let slow = false;
    const objects = new Map<string, Uint8Array>([['key', text('old')]]);
    const store = cached(
      hooked((method) => (slow && method === 'get' ? gate.promise : Promise.resolve()), objects),
      1000,
    );
    await store.get('key');
    await store.put('key', [text('new')], { replace: true });
    expect(Buffer.from(await store.get('key')).toString()).to.equal('new');
    slow = true;
    const during = store.get('key', { offset: 0, length: 3 });
    await store.delete('key');
    gate.resolve();
    await errorOf(during);
    expect(await errorOf(store.get('key', { offset: 0, length: 3 }))).to.be.instanceOf(Error);
  });

  it('asks the store itself for a fresh answer', async () => {
    const objects = new Map<string, Uint8Array>([['key', text('old')]]);
    const store = cached(memoryBlobStore(objects), 1000);
    await store.get('key');
    objects.set('key', text('new'));
    expect(Buffer.from(await store.get('key')).toString()).to.equal('old');
    expect(Buffer.from(await store.get('key', undefined, { fresh: true })).toString()).to.equal('new');
    expect(Buffer.from(await store.get('key')).toString()).to.equal('new');
  });

  it('does not keep failures, and lets a reader go that is aborted', async () => {
    let failing = true;
    const objects = new Map<string, Uint8Array>([['key', text('x')]]);
    const store = cached(
      hooked(async () => (await sleep(1), failing ? Promise.reject(new TransientError('away')) : undefined), objects),
      1000,
    );
    expect(await errorOf(store.get('key'))).to.be.instanceOf(TransientError);
    failing = false;
    const controller = new AbortController();
    const aborted = errorOf(store.get('key', undefined, { signal: controller.signal }));
    const other = store.get('key');
    controller.abort(new Error('enough'));
    expect(await aborted).to.have.property('message', 'enough');
    expect(Buffer.from(await other).toString()).to.equal('x');
  });
});
