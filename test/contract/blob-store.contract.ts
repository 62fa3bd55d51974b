// What every blob store promises (src/storage/blob-store.ts), for every driver and every stack of decorators.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import * as fc from 'fast-check';
import { BlobNotFoundError, type BlobStore } from '../../src/storage/blob-store.ts';
import { allocatePageAligned } from '../../src/storage/page-aligned.ts';
import { bytesOf } from './blob-store-writer.ts';

/** One place, empty at first, that can be opened as often as wanted. */
export interface BlobPlace extends AsyncDisposable {
  open(): Promise<BlobStore>;
}

/** A place that other processes reach as well, by the local driver. */
export interface SharedPlace extends BlobPlace {
  readonly directory: string;
}

export function describeBlobStore(name: string, make: () => Promise<BlobPlace>): void {
  describe(`blob store: ${name}`, () => {
    let place: BlobPlace;
    let store: BlobStore;

    beforeEach(async () => {
      place = await make();
      store = await place.open();
    });
    afterEach(async () => {
      await store[Symbol.asyncDispose]();
      await place[Symbol.asyncDispose]();
    });

    it('answers the parts of an object one after another', async () => {
      await store.put('chunks/ab/one', [text('a'), text(''), text('bcd'), text('ef')]);
      expect(await read(store, 'chunks/ab/one')).to.equal('abcdef');
      expect(await store.stat('chunks/ab/one')).to.deep.equal({ sizeBytes: 6 });
    });

    it('keeps an object without bytes', async () => {
      await store.put('empty', []);
      expect(await read(store, 'empty')).to.equal('');
      expect(await store.get('empty', { offset: 0, length: 0 })).to.have.length(0);
      expect(await store.stat('empty')).to.deep.equal({ sizeBytes: 0 });
      expect(await list(store, '')).to.deep.equal(['empty']);
    });

    it('keeps every byte of big objects, aligned in memory or not', async () => {
      const aligned = allocatePageAligned(2 * 1024 * 1024 + 4096);
      for (let index = 0; index < aligned.length; index += 1) aligned[index] = (index * 2654435761) >>> 24;
      const split = [aligned.subarray(0, 4096), aligned.subarray(4096, 8192), aligned.subarray(8192)];
      const odd = new Uint8Array(aligned.buffer, 1, aligned.length - 7);
      await store.put('aligned', [aligned]);
      await store.put('split', split);
      await store.put('odd', [odd]);
      await store.put('warm', split, { warm: true });
      expect(Buffer.compare(await store.get('aligned'), aligned)).to.equal(0);
      expect(Buffer.compare(await store.get('split'), aligned)).to.equal(0);
      expect(Buffer.compare(await store.get('warm'), aligned)).to.equal(0);
      expect(Buffer.compare(await store.get('odd'), odd)).to.equal(0);
    });

    it('does not keep the parts after the put', async () => {
      const part = text('before');
      await store.put('kept', [part]);
      part.fill(0x21);
      expect(await read(store, 'kept')).to.equal('before');
    });

    it('does not read the parts any more once it says that they are taken', async () => {
      for (const part of [Buffer.alloc(3 * 4096, 'b'), allocatePageAligned(1 << 20).fill(0x62)]) {
        const key = `taken/${part.length}`;
        await store.put(key, [part], { onTaken: () => void part.fill(0x21) });
        expect(Buffer.from(await store.get(key)).every((byte) => byte === 0x62)).to.equal(true);
      }
    });

    it('answers exactly the range that was asked for', async () => {
      const bytes = Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 251));
      await store.put('ranges', [bytes]);
      const range = fc.tuple(fc.nat(1000), fc.nat(1000)).map(([a, b]) => ({ offset: Math.min(a, b), length: Math.abs(a - b) }));
      await fc.assert(
        fc.asyncProperty(range, async ({ offset, length }) => {
          const answer = await store.get('ranges', { offset, length });
          expect(Buffer.compare(answer, bytes.subarray(offset, offset + length))).to.equal(0);
        }),
        { numRuns: 50 },
      );
    });

    it('refuses ranges outside of the object', async () => {
      await store.put('short', [text('0123456789')]);
      for (const [offset, length] of [
        [0, 11],
        [10, 1],
        [11, 0],
        [-1, 5],
        [5, -1],
        [0.5, 1],
        [Number.NaN, 1],
        [2 ** 53, 1],
      ] as const)
        expect(await errorOf(store.get('short', { offset, length })), `${length} at ${offset}`).to.be.instanceOf(RangeError);
      expect(await read(store, 'short')).to.equal('0123456789');
    });

    it('says when there is no such object', async () => {
      const error = await errorOf(store.get('chunks/ab/none'));
      expect(error).to.be.instanceOf(BlobNotFoundError);
      expect(await errorOf(store.get('none', { offset: 0, length: 1 }))).to.be.instanceOf(BlobNotFoundError);
      expect(await store.stat('chunks/ab/none')).to.equal(undefined);
      await store.put('folder/object', [text('x')]);
      expect(await errorOf(store.get('folder'))).to.be.instanceOf(BlobNotFoundError);
      expect(await store.stat('folder')).to.equal(undefined);
    });

    it('leaves an existing object as it is', async () => {
      await store.put('first', [text('first')]);
      await store.put('first', [text('second, longer')]);
      expect(await read(store, 'first')).to.equal('first');
    });

    it('replaces an object when asked to, whole', async () => {
      await store.put('object', [text('first')]);
      await store.put('object', [text('second, longer')], { replace: true });
      expect(await read(store, 'object')).to.equal('second, longer');
      await store.put('object', [text('3')], { replace: true });
      expect(await read(store, 'object')).to.equal('3');
      expect(await store.stat('object')).to.deep.equal({ sizeBytes: 1 });
      await store.put('missing', [text('new')], { replace: true });
      expect(await read(store, 'missing')).to.equal('new');
    });

    it('shows readers the old bytes or the new ones while an object is replaced', async () => {
      const versions = [1, 2, 3, 4, 5].map((value) => Buffer.alloc(300_000, value));
      await store.put('swapped', [versions[0]!]);
      const writing = new AbortController();
      const reads = Array.from({ length: 4 }, async () => {
        while (!writing.signal.aborted) {
          const bytes = Buffer.from(await store.get('swapped', undefined, { fresh: true }));
          expect(bytes).to.have.length(300_000);
          expect(bytes.equals(Buffer.alloc(300_000, bytes[0]))).to.equal(true);
        }
      });
      for (const version of versions) await store.put('swapped', [version], { replace: true });
      writing.abort();
      await Promise.all(reads);
      expect((await store.get('swapped'))[0]).to.equal(5);
    });

    it('lets one of many concurrent puts of a key win, whole', async () => {
      const other = await place.open();
      for (let round = 0; round < 5; round += 1) {
        const key = `race/${round}`;
        const puts = Array.from({ length: 12 }, (_, index) =>
          (index % 2 === 0 ? store : other).put(key, [Buffer.alloc(200_000, index + 1)]),
        );
        const seen = await Promise.all(puts.map(async (put) => (await put, Buffer.from(await store.get(key)))));
        expect(new Set(seen.map((bytes) => bytes[0])).size).to.equal(1);
        expect(seen[0]!.equals(Buffer.alloc(200_000, seen[0]![0]))).to.equal(true);
      }
      await other[Symbol.asyncDispose]();
    });

    it('shows what one opener puts and deletes to another', async () => {
      const other = await place.open();
      await store.put('shared/object', [text('bytes')]);
      expect(await read(other, 'shared/object')).to.equal('bytes');
      await other.delete('shared/object');
      expect(await store.stat('shared/object')).to.equal(undefined);
      expect(await errorOf(store.get('shared/object', undefined, { fresh: true }))).to.be.instanceOf(BlobNotFoundError);
      await other[Symbol.asyncDispose]();
    });

    it('deletes an object for good, and twice', async () => {
      await store.put('chunks/ab/gone', [text('x')]);
      await store.put('chunks/ab/stays', [text('y')]);
      expect(await read(store, 'chunks/ab/gone')).to.equal('x');
      await store.delete('chunks/ab/gone');
      await store.delete('chunks/ab/gone');
      await store.delete('chunks/cd/never');
      expect(await errorOf(store.get('chunks/ab/gone'))).to.be.instanceOf(BlobNotFoundError);
      expect(await list(store, '')).to.deep.equal(['chunks/ab/stays']);
      await store.put('chunks/ab/gone', [text('again')]);
      expect(await read(store, 'chunks/ab/gone')).to.equal('again');
    });

    it('lists keys by byte, each once, with sizes', async () => {
      const segment = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,3}$/);
      const key = fc.array(segment, { minLength: 1, maxLength: 3 }).map((segments) => segments.join('/'));
      let round = 0;
      const keys = fc.uniqueArray(key, { minLength: 1, maxLength: 12 }).filter(noneIsAFolder);
      await fc.assert(
        fc.asyncProperty(keys, fc.nat(11), fc.nat(8), async (names, pick, cut) => {
          // Folders of their own, because no key is a folder of another one, not even of a deleted one.
          round += 1;
          const all = names.map((each) => `${round}/${each}`);
          await Promise.all(all.map((each, index) => store.put(each, [Buffer.alloc(index)])));
          const sorted = all.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
          expect(await collect(store.list(`${round}/`))).to.deep.equal(
            sorted.map((each) => ({ key: each, sizeBytes: all.indexOf(each) })),
          );
          const prefix = all[pick % all.length]!.slice(0, cut);
          expect(await list(store, prefix)).to.deep.equal(sorted.filter((each) => each.startsWith(prefix)));
          await Promise.all(all.map((each) => store.delete(each)));
        }),
        { numRuns: 25 },
      );
    });

    it('lists nothing where nothing is', async () => {
      expect(await list(store, '')).to.deep.equal([]);
      expect(await list(store, 'chunks/')).to.deep.equal([]);
      await store.put('chunks/ab/one', [text('x')]);
      expect(await list(store, 'chunks/ab/one/')).to.deep.equal([]);
      expect(await list(store, 'pages/')).to.deep.equal([]);
    });

    it('lets objects come and go while it lists', async () => {
      for (let index = 0; index < 200; index += 1) await store.put(`many/${String(index).padStart(3, '0')}`, [text('x')]);
      const seen: string[] = [];
      for await (const { key } of store.list('many/')) {
        seen.push(key);
        if (seen.length === 20) for (let index = 100; index < 150; index += 1) await store.delete(`many/${index}`);
      }
      expect(seen).to.deep.equal([...new Set(seen)].sort());
      expect(seen).to.include('many/099').and.to.include('many/199');
    });

    it('refuses keys outside of the contract, in every call', async () => {
      const long = 'a'.repeat(201);
      for (const key of [
        '',
        '/',
        '/a',
        'a/',
        'a//b',
        '.',
        '..',
        '../a',
        'a/../b',
        'a/./b',
        '.a',
        'a/.b',
        '-a',
        'A',
        'a b',
        'a\0b',
        'ä',
        'a\\b',
        '+tmp/x',
        'a:b',
        long,
      ]) {
        const calls: Record<string, () => Promise<unknown>> = {
          put: () => store.put(key, [text('x')]),
          replace: () => store.put(key, [text('x')], { replace: true }),
          get: () => store.get(key),
          stat: () => store.stat(key),
          delete: () => store.delete(key),
        };
        for (const [method, call] of Object.entries(calls))
          expect(await errorOf(call()), `${method} ${JSON.stringify(key)}`).to.be.instanceOf(RangeError);
      }
      for (const prefix of ['/', '/a', 'a//', '..', '../', 'A', '+tmp'])
        expect(await errorOf(list(store, prefix)), `list ${prefix}`).to.be.instanceOf(RangeError);
      expect(await list(store, '')).to.deep.equal([]);
      const longest = 'a/'.repeat(99) + 'bb';
      await store.put(longest, [text('x')]);
      expect(await list(store, '')).to.deep.equal([longest]);
    });

    it('leaves nothing of a put that was aborted', async () => {
      const reason = new Error('stopped');
      expect(await errorOf(store.put('early', [text('x')], { signal: AbortSignal.abort(reason) }))).to.equal(reason);
      expect(await errorOf(store.get('early', undefined, { signal: AbortSignal.abort(reason) }))).to.equal(reason);
      const big = Buffer.alloc(4 * 1024 * 1024, 7);
      for (let delay = 0; delay < 6; delay += 1) {
        const controller = new AbortController();
        const puts = [0, 1, 2, 3, 4, 5].map((index) =>
          store.put(`aborted/${delay}-${index}`, [big], { signal: controller.signal }).then(
            () => 'done',
            (error: unknown) => error,
          ),
        );
        setTimeout(() => controller.abort(reason), delay);
        const outcomes = await Promise.all(puts);
        const expected = outcomes.flatMap((outcome, index) => (outcome === 'done' ? [`aborted/${delay}-${index}`] : []));
        expect(outcomes.filter((outcome) => outcome !== 'done' && outcome !== reason)).to.deep.equal([]);
        // A put whose signal came after the object was visible may say either.
        const listed = await list(store, `aborted/${delay}-`);
        expect(listed).to.include.members(expected);
        for (const key of listed) expect((await store.get(key)).length).to.equal(big.length);
      }
      await store.put('early', [text('y')]);
      expect(await read(store, 'early')).to.equal('y');
    });

    it('serves many callers at once', async () => {
      const keys = Array.from({ length: 60 }, (_, index) => `busy/${index % 20}/${index}`);
      await Promise.all(
        keys.map(async (key, index) => {
          await store.put(key, [Buffer.alloc(10_000 + index, index)]);
          expect((await store.get(key, { offset: 9_999, length: 1 + index })).every((byte) => byte === index)).to.equal(true);
        }),
      );
      expect(await list(store, 'busy/')).to.have.length(60);
    });
  });
}

/** What holds when a process that writes is killed. */
export function describeKilledWriter(name: string, make: () => Promise<SharedPlace>): void {
  describe(`blob store: ${name}`, () => {
    it('shows nothing partial, and all that was acknowledged, after kill -9 of a writer', async () => {
      await using place = await make();
      const acknowledged = new Set<string>();
      for (let round = 0; round < 6; round += 1) {
        const writer = spawn(process.execPath, [writerPath, place.directory, String(round * 10_000)], {
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        const ended = once(writer, 'close');
        let rest = '';
        writer.stdout.on('data', (part: Buffer) => {
          const lines = (rest + part.toString()).split('\n');
          rest = lines.pop()!;
          for (const line of lines) acknowledged.add(line);
        });
        await once(writer.stdout, 'data');
        await sleep(Math.random() * 60);
        writer.kill('SIGKILL');
        await ended;
        const after = await place.open();
        const keys = await list(after, '');
        for (const key of keys) expect(Buffer.compare(await after.get(key), bytesOf(key)), key).to.equal(0);
        expect(keys).to.include.members([...acknowledged]);
        expect(await readdir(path.join(place.directory, '+tmp'))).to.deep.equal([]);
        await after[Symbol.asyncDispose]();
      }
      expect(acknowledged.size).to.be.greaterThan(5);
    });
  });
}

const writerPath = fileURLToPath(new URL('blob-store-writer.ts', import.meta.url));

export const text = (value: string): Buffer => Buffer.from(value);

async function read(store: BlobStore, key: string): Promise<string> {
  return Buffer.from(await store.get(key)).toString();
}

async function list(store: BlobStore, prefix: string): Promise<string[]> {
  return (await collect(store.list(prefix))).map(({ key }) => key);
}

/** Everything that an iteration answers. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

export async function errorOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  return undefined;
}

const noneIsAFolder = (keys: string[]): boolean =>
  keys.every((key) => keys.every((other) => key === other || !other.startsWith(`${key}/`)));
