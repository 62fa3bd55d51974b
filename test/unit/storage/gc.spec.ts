import { expect } from 'chai';
import * as fc from 'fast-check';
import { TransientError } from '../../../src/platform/errors.ts';
import type { PageAddress } from '../../../src/storage/address.ts';
import type { BlobStore } from '../../../src/storage/blob-store.ts';
import { encodeChunk } from '../../../src/storage/chunk-encoder.ts';
import { ChunkStore } from '../../../src/storage/chunk-store.ts';
import { PageCorruptError } from '../../../src/storage/damage.ts';
import { memoryBlobStore } from '../../../src/storage/drivers/memory.ts';
import { collectGarbage } from '../../../src/storage/gc.ts';
import { Layers } from '../../../src/storage/layers.ts';
import type { Ledger } from '../../../src/storage/ledger.ts';
import { PageStore } from '../../../src/storage/page-store.ts';
import { corruptMarkKey, objectKey } from '../../../src/storage/paths.ts';
import { errorOf } from '../../contract/blob-store.contract.ts';
import { randomFrom } from '../../support/sample.ts';
import { chunk } from './support/guest-data.ts';
import { type LedgerFaults, MemoryLedger, RegistrationEndedError, type Session } from './support/memory-ledger.ts';
import { Schedule, type Task } from './support/schedule.ts';
import { isLongRun } from '../../support/sample.ts';

/** Few chunks and few indexes, so that writers meet on the same objects all the time. */
const pool = [1, 2, 3, 4, 5].map((seed) => encodeChunk(chunk([1], seed))!);
const indexes = [0, 1, 1024, 5000];

const atOnce = async () => {};
const session = (): Session => ({ alive: true, begun: new Set() });

describe('garbage collection', () => {
  let objects: Map<string, Uint8Array>;
  let ledger: MemoryLedger;

  beforeEach(() => {
    objects = new Map();
    ledger = new MemoryLedger();
  });

  const layersOver = (blobs: BlobStore) => new Layers(new PageStore({ blobs }));

  /** A layer of these chunks of the pool, stored. */
  async function layerOf(...chunks: number[]): Promise<PageAddress> {
    const blobs = memoryBlobStore(objects);
    const store = new ChunkStore({ blobs, admission: ledger.admission(atOnce) });
    const builder = await new Layers(new PageStore({ blobs, admission: ledger.admission(atOnce) })).build();
    for (const [at, index] of chunks.entries()) {
      await store.put(pool[index]!);
      builder.set(indexes[at]!, pool[index]!.address);
    }
    return builder.flush();
  }

  const collect = (options: { dryRun?: boolean; blobs?: BlobStore } = {}) => {
    const blobs = options.blobs ?? memoryBlobStore(objects);
    return collectGarbage({
      blobs,
      layers: layersOver(blobs),
      ledger: ledger.collector(session(), atOnce),
      dryRun: options.dryRun,
    });
  };

  const has = (index: number) => objects.has(objectKey('chunks', pool[index]!.address));

  it('keeps what rows and jobs reach, condemns the rest, and deletes it in the next run', async () => {
    ledger.rows.set('image', await layerOf(0, 1));
    ledger.pins.set('job', [await layerOf(2)]);
    await layerOf(3);
    const first = await collect();
    expect(first).to.include({ roots: 2, reachable: 7, stored: 10, missing: 0, condemned: 3, deleted: 0, withdrawn: 0 });
    expect(first.condemnedBytes).to.be.greaterThan(65_536).and.lessThan(first.storedBytes);
    expect(has(3)).to.equal(true);
    const second = await collect();
    expect(second).to.include({ condemned: 0, deleted: 3, withdrawn: 0 });
    expect([0, 1, 2, 3].map(has)).to.deep.equal([true, true, true, false]);
    expect(await collect()).to.include({ stored: 7, condemned: 0, deleted: 0 });
    expect(ledger.condemned.size).to.equal(0);
  });

  it('changes nothing in a dry run, and says what it would do', async () => {
    await layerOf(0);
    expect(await collect({ dryRun: true })).to.include({ condemned: 3, deleted: 0 });
    expect(ledger.condemned.size).to.equal(0);
    await collect();
    expect(await collect({ dryRun: true })).to.include({ condemned: 0, deleted: 3 });
    expect(objects.size).to.equal(3);
    expect(ledger.condemned.size).to.equal(3);
  });

  it('waits for the writers that were there when it condemned, and for no others', async () => {
    const writer = ledger.register();
    const root = await layerOf(0);
    await collect();
    await collect();
    const later = ledger.register();
    expect(has(0)).to.equal(true);
    ledger.rows.set('image', root);
    ledger.writers.delete(writer);
    expect(await collect()).to.include({ withdrawn: 3, deleted: 0 });
    ledger.rows.delete('image');
    ledger.writers.delete(later);
    await collect();
    ledger.register();
    expect(await collect()).to.include({ deleted: 3 });
  });

  it('does not delete what was put and condemned again while it marked', async () => {
    for (const claimsAnyCondemnation of [false, true]) {
      objects = new Map();
      ledger = new MemoryLedger({ claimsAnyCondemnation });
      await layerOf(0);
      await collect();
      const inner = ledger.collector(session(), atOnce);
      const interrupted: Ledger = {
        ...inner,
        async *roots(signal) {
          yield* inner.roots(signal);
          ledger.register();
          await layerOf(0);
          await collect();
        },
      };
      const blobs = memoryBlobStore(objects);
      await collectGarbage({ blobs, layers: layersOver(blobs), ledger: interrupted });
      expect(has(0)).to.equal(!claimsAnyCondemnation);
    }
  });

  it('loses to a writer that puts a condemned object again', async () => {
    await layerOf(0);
    await collect();
    objects.set(objectKey('chunks', pool[0]!.address), new Uint8Array(0));
    const root = await layerOf(0);
    ledger.rows.set('image', root);
    expect(ledger.condemned.size).to.equal(0);
    await collect();
    await collect();
    expect(objects.get(objectKey('chunks', pool[0]!.address))!.length).to.be.greaterThan(0);
  });

  it('deletes nothing when a page in use is damaged or missing', async () => {
    const root = await layerOf(0);
    ledger.rows.set('image', root);
    await layerOf(1);
    await collect();
    const key = objectKey('pages', root);
    const page = objects.get(key)!;
    const before = objects.size;
    for (const damaged of [undefined, Buffer.from(page).fill(1, 40, 41)]) {
      objects.delete(key);
      if (damaged !== undefined) objects.set(key, damaged);
      expect(await errorOf(collect())).to.be.instanceOf(PageCorruptError);
      expect(has(1)).to.equal(true);
    }
    objects.set(key, page);
    objects.delete(corruptMarkKey(key));
    expect(objects.size).to.equal(before);
    expect(await collect()).to.include({ deleted: 3 });
  });

  it('says how many objects are missing', async () => {
    ledger.rows.set('image', await layerOf(0, 1));
    objects.delete(objectKey('chunks', pool[1]!.address));
    expect(await collect()).to.include({ missing: 1 });
  });

  it('removes the mark of a damaged object with the object', async () => {
    await layerOf(0);
    objects.set(corruptMarkKey(objectKey('chunks', pool[0]!.address)), new Uint8Array(1));
    await collect();
    await collect();
    expect(objects.size).to.equal(0);
  });

  it('leaves alone what is neither chunk nor page', async () => {
    objects.set('format.json', new Uint8Array(1));
    objects.set('chunks/ab/not-an-address', new Uint8Array(1));
    await collect();
    await collect();
    expect([...objects.keys()]).to.deep.equal(['format.json', 'chunks/ab/not-an-address']);
  });

  it('goes on after deletes that failed, and settles only what is gone', async () => {
    for (const index of [0, 1, 2, 3, 4]) await layerOf(index);
    await collect();
    const inner = memoryBlobStore(objects);
    let calls = 0;
    const blobs: BlobStore = {
      put: (...call) => inner.put(...call),
      get: (...call) => inner.get(...call),
      stat: (key) => inner.stat(key),
      delete: (key) => ((calls += 1) === 6 ? Promise.reject(new TransientError('away')) : inner.delete(key)),
      list: (prefix) => inner.list(prefix),
      [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
    };
    const owner = session();
    const first = collectGarbage({ blobs, layers: layersOver(blobs), ledger: ledger.collector(owner, atOnce) });
    expect(await errorOf(first)).to.be.instanceOf(TransientError);
    expect(objects.size).to.be.greaterThan(0).and.lessThan(15);
    for (const key of objects.keys()) expect(ledger.condemned.has(key), key).to.equal(true);
    owner.alive = false;
    owner.begun.clear();
    await collect();
    expect(objects.size).to.equal(0);
    expect(ledger.condemned.size).to.equal(0);
  });

  it('stops when it is told to', async () => {
    await layerOf(0);
    await collect();
    const reason = new Error('enough');
    const blobs = memoryBlobStore(objects);
    const stopped = collectGarbage({
      blobs,
      layers: layersOver(blobs),
      ledger: ledger.collector(session(), atOnce),
      signal: AbortSignal.abort(reason),
    });
    expect(await errorOf(stopped)).to.equal(reason);
    expect(objects.size).to.equal(3);
  });

  describe('beside writers, crashes and other collectors, in any order', () => {
    const runs = isLongRun ? 3000 : 150;

    it('never deletes what is in use, and in the end deletes all that is not', async function () {
      this.timeout(600_000);
      await fc.assert(
        fc.asyncProperty(fc.integer(), async (seed) => {
          const outcome = await new World(seed).live();
          expect(outcome).to.equal(undefined);
        }),
        { numRuns: runs },
      );
    });

    const faults: Record<string, LedgerFaults> = {
      'notes the writers before the condemnation is committed': { notesWritersBeforeCommit: true },
      'admits writers to claimed objects': { admitsClaimed: true },
      'does not withdraw': { forgetsToWithdraw: true },
      'reads roots from two snapshots': { readsRootsInParts: true },
      'forgets the checkpoints of jobs': { forgetsPins: true },
    };
    for (const [what, fault] of Object.entries(faults))
      it(`is seen to lose data with a ledger that ${what}`, async function () {
        this.timeout(300_000);
        for (let seed = 1; seed <= 3000; seed += 1) if ((await new World(seed, fault).live()) !== undefined) return;
        throw new Error('the model did not notice');
      });
  });
});

/** A service in small: processes that write, copy, delete and collect, all over one store and one ledger. */
class World {
  readonly #schedule: Schedule;
  readonly #ledger: MemoryLedger;
  readonly #objects = new Map<string, Uint8Array>();
  readonly #plain: Layers;
  /** What the roots reach that were ever committed, by root. */
  readonly #reach = new Map<PageAddress, Set<string>>();
  readonly #jobs = new Map<string, { writer: number; task: Task | undefined }>();
  readonly #ending: { lost?: string } = {};
  #rows = 0;

  constructor(seed: number, faults: LedgerFaults = {}) {
    this.#schedule = new Schedule(randomFrom(seed));
    this.#ledger = new MemoryLedger(faults);
    this.#plain = new Layers(new PageStore({ blobs: memoryBlobStore(this.#objects), cachedPageBytes: 0 }));
  }

  /** Answers what was lost or left, or undefined when all is well. */
  async live(): Promise<string | undefined> {
    const schedule = this.#schedule;
    for (let count = 2 + schedule.pick(3); count > 0; count -= 1) this.#startJob(`job-${count}`);
    for (let count = 1 + schedule.pick(2); count > 0; count -= 1)
      schedule.start(`collector-${count}`, (task) => this.#collectOften(task));
    schedule.start('deleter', (task) => this.#deleteRows(task));
    schedule.start('copier', (task) => this.#copyRows(task));
    schedule.start('fate', (task) => this.#strike(task));
    try {
      await schedule.run(100_000);
    } catch (error) {
      if (this.#ending.lost === undefined) throw error;
    }
    return this.#ending.lost ?? this.#checkEnd();
  }

  #store(task: Task): BlobStore {
    const inner = memoryBlobStore(this.#objects);
    return {
      put: async (key, parts, { replace = false } = {}) => {
        await task.step();
        if (!replace && this.#objects.has(key)) return task.step();
        await task.step();
        if (replace || !this.#objects.has(key)) this.#objects.set(key, Buffer.concat(parts));
        await task.step();
      },
      get: async (...call) => (await task.step(), inner.get(...call)),
      stat: async (key) => (await task.step(), inner.stat(key)),
      delete: async (key) => {
        await task.step();
        this.#objects.delete(key);
        this.#checkInUse(key);
        await task.step();
      },
      async *list(prefix) {
        await task.step();
        yield* inner.list(prefix);
      },
      [Symbol.asyncDispose]: async () => {},
    };
  }

  #checkInUse(key: string): void {
    for (const root of this.#ledger.liveRoots())
      if (this.#reach.get(root)?.has(key)) {
        this.#ending.lost ??= `${key} was deleted while ${root} was in use`;
        throw new Error(this.#ending.lost);
      }
  }

  /** In the transaction that makes a root count: all of it is stored. */
  async #reachOf(root: PageAddress): Promise<Set<string>> {
    const reach = new Set<string>();
    for await (const { kind, address } of this.#plain.reachable(root)) reach.add(objectKey(kind, address));
    return reach;
  }

  #assertStored(root: PageAddress): void {
    for (const key of this.#reach.get(root)!)
      if (!this.#objects.has(key)) {
        this.#ending.lost ??= `${root} was committed without ${key}`;
        throw new Error(this.#ending.lost);
      }
  }

  #startJob(job: string): void {
    const base = this.#anyRow();
    this.#ledger.pins.set(job, base === undefined ? [] : [base]);
    this.#startAttempt(job);
  }

  #startAttempt(job: string): void {
    const writer = this.#ledger.register();
    const attempt: { writer: number; task: Task | undefined } = { writer, task: undefined };
    this.#jobs.set(job, attempt);
    attempt.task = this.#schedule.start(`${job}, attempt ${writer}`, (task) =>
      this.#write(task, job, writer).catch((error: unknown) => {
        if (error instanceof RegistrationEndedError) return;
        if (error instanceof TransientError) return this.#giveUp(job, writer);
        // An attempt that lost its lease may find what it wrote collected.
        if (!this.#ledger.writers.has(writer)) return;
        this.#ending.lost ??= `${task.name}: ${String(error)}`;
        throw error;
      }),
    );
  }

  #giveUp(job: string, writer: number): void {
    if (!this.#ledger.writers.delete(writer)) return;
    this.#ledger.pins.delete(job);
    this.#jobs.delete(job);
  }

  async #write(task: Task, job: string, writer: number): Promise<void> {
    const { pick } = this.#schedule;
    const draw = pick.bind(this.#schedule);
    const blobs = this.#store(task);
    const admission = this.#ledger.admission(() => task.step());
    const chunks = new ChunkStore({ blobs, admission });
    const layers = new Layers(new PageStore({ blobs, admission }));
    const builder = await layers.build(this.#ledger.pins.get(job)?.at(-1));
    for (let count = draw(5); count >= 0; count -= 1) {
      const encoded = pool[draw(pool.length)]!;
      await chunks.put(encoded);
      builder.set(indexes[draw(indexes.length)]!, encoded.address);
      if (draw(3) === 0) await this.#commit(task, await builder.flush(), writer, (root) => this.#ledger.pins.set(job, [root]));
    }
    if (draw(5) === 0) return this.#giveUp(job, writer);
    await this.#commit(task, await builder.flush(), writer, (root) => {
      this.#ledger.rows.set(`row-${(this.#rows += 1)}`, root);
      this.#giveUp(job, writer);
    });
  }

  async #commit(task: Task, root: PageAddress, writer: number, apply: (root: PageAddress) => void): Promise<void> {
    await task.step();
    this.#ledger.assertRegistered(writer);
    if (!this.#reach.has(root)) {
      const reach = await this.#reachOf(root).catch((error: unknown) => {
        this.#ending.lost ??= `a registered writer flushed ${root}, but ${String(error)}`;
        throw error;
      });
      this.#reach.set(root, reach);
      this.#ledger.assertRegistered(writer);
    }
    this.#assertStored(root);
    apply(root);
  }

  #anyRow(): PageAddress | undefined {
    const roots = [...this.#ledger.rows.values()];
    return roots[this.#schedule.pick(roots.length + 1)];
  }

  async #deleteRows(task: Task): Promise<void> {
    for (let count = 0; count < 12; count += 1) {
      for (let wait = this.#schedule.pick(40); wait > 0; wait -= 1) await task.step();
      const ids = [...this.#ledger.rows.keys()];
      const id = ids[this.#schedule.pick(ids.length)];
      if (id !== undefined) this.#ledger.rows.delete(id);
    }
  }

  /** Image from image; some are made by a job that pins the source's root, after which the source may go. */
  async #copyRows(task: Task): Promise<void> {
    for (let count = 0; count < 8; count += 1) {
      for (let wait = this.#schedule.pick(40); wait > 0; wait -= 1) await task.step();
      const root = this.#anyRow();
      if (root === undefined) continue;
      const name = `copy-${count}`;
      this.#ledger.pins.set(name, [root]);
      for (let wait = this.#schedule.pick(20); wait > 0; wait -= 1) await task.step();
      this.#ledger.rows.set(name, root);
      this.#ledger.pins.delete(name);
    }
  }

  async #collectOften(task: Task): Promise<void> {
    for (let count = 4 + this.#schedule.pick(6); count > 0; count -= 1) {
      const owner: Session = { alive: true, begun: new Set() };
      const fate = this.#schedule.pick(5);
      // Most often around a delete, where it matters.
      let stepsLeft = fate < 2 ? this.#schedule.pick(150) : Infinity;
      const afterClaim = fate < 4 ? this.#schedule.pick(12) : Infinity;
      const step = async () => {
        await task.step();
        stepsLeft -= 1;
        if (stepsLeft > 0) return;
        // The session ends, and the process does not know it yet. Or the process is killed: nothing it does has an effect any more.
        if (fate % 2 === 0) owner.alive = false;
        else throw new Error('killed');
      };
      const blobs = this.#store({ ...task, step });
      const inner = this.#ledger.collector(owner, step);
      const ledger: Ledger = {
        ...inner,
        claim: async (condemned) => {
          const claim = await inner.claim(condemned);
          if (claim.keys.length > 0) stepsLeft = Math.min(stepsLeft, afterClaim);
          return claim;
        },
      };
      await collectGarbage({ blobs, layers: layersOf(blobs), ledger }).catch((error: unknown) => {
        // Beside another collector, a root's pages may go with the root while it is walked.
        const isExpected =
          error instanceof PageCorruptError || (error instanceof Error && /^killed|claim has ended/.test(error.message));
        if (!isExpected || this.#ending.lost !== undefined) throw error;
      });
      owner.alive = false;
      for (let wait = this.#schedule.pick(5); wait > 0; wait -= 1) await task.step();
      // As long as a delete may take.
      owner.begun.clear();
    }
  }

  /** Kills attempts, or ends their registrations while they go on; another attempt follows from the checkpoint. */
  async #strike(task: Task): Promise<void> {
    for (let count = 0; count < 6; count += 1) {
      for (let wait = this.#schedule.pick(60); wait > 0; wait -= 1) await task.step();
      const jobs = [...this.#jobs];
      const struck = jobs[this.#schedule.pick(jobs.length)];
      if (struck === undefined) continue;
      const [job, attempt] = struck;
      if (this.#schedule.pick(2) === 0 && attempt.task !== undefined) this.#schedule.kill(attempt.task);
      for (let wait = this.#schedule.pick(20); wait > 0; wait -= 1) await task.step();
      if (this.#jobs.get(job) !== attempt) continue;
      this.#ledger.writers.delete(attempt.writer);
      for (let wait = this.#schedule.pick(20); wait > 0; wait -= 1) await task.step();
      this.#startAttempt(job);
    }
  }

  /** When nothing else runs, two runs leave what is in use and no more. */
  async #checkEnd(): Promise<string | undefined> {
    // Jobs whose last attempt was killed are abandoned by whoever finds their lease ended.
    for (const [job, { writer }] of this.#jobs) this.#giveUp(job, writer);
    const blobs = memoryBlobStore(this.#objects);
    for (let run = 0; run < 3; run += 1)
      await collectGarbage({
        blobs,
        layers: layersOf(blobs),
        ledger: this.#ledger.collector({ alive: true, begun: new Set() }, atOnce),
      });
    const inUse = new Set<string>();
    for (const root of this.#ledger.liveRoots()) for (const key of await this.#reachOf(root)) inUse.add(key);
    for (const key of inUse) if (!this.#objects.has(key)) return `${key} is missing`;
    for (const key of this.#objects.keys()) if (!inUse.has(key)) return `${key} was left behind`;
    return this.#ledger.condemned.size > 0 ? 'condemnations were left behind' : undefined;
  }
}

const layersOf = (blobs: BlobStore): Layers => new Layers(new PageStore({ blobs, cachedPageBytes: 0 }));
