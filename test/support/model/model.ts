// Disks, images and snapshots of a service beside what each must read as. A step does one thing to both; what is read is compared at once.
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import type { Operation } from '../../../generated/yandex/cloud/operation/operation.ts';
import type { ModelConnection, Outcome } from './connection.ts';
import { apply, type Change, DiskBytes } from './disk-bytes.ts';
import type { Random } from './random-changes.ts';
import { madeBy, type ModelService } from './service.ts';

const MiB = 1024 * 1024;
const unitBytes = 4 * MiB;
const maxDisks = 5;
const maxFrozen = 6;
const maxDiskBytes = 16 * MiB;

interface ModelDisk {
  id: string;
  content: DiskBytes;
  connection: ModelConnection | undefined;
}

/** An image or a snapshot. */
interface Frozen {
  id: string;
  kind: 'image' | 'snapshot';
  content: DiskBytes;
}

type Step = () => Promise<void>;

export class Model {
  readonly #service: ModelService;
  readonly #random: Random;
  readonly #disks: ModelDisk[] = [];
  readonly #frozen: Frozen[] = [];
  /** What was done, with the milliseconds since the beginning. */
  readonly trace: string[] = [];
  readonly #startedAtMs = performance.now();
  #background: Promise<unknown>[] = [];

  constructor(service: ModelService, random: Random) {
    this.#service = service;
    this.#random = random;
  }

  /** Does one thing that can be done now. @throws Error when what is there is not what must be. */
  async step(): Promise<void> {
    const possible = this.#possible().filter(([weight]) => weight > 0);
    let roll = this.#random.integer(possible.reduce((sum, [weight]) => sum + weight, 0));
    const chosen = possible.find(([weight]) => (roll -= weight) < 0)!;
    await chosen[1].call(this);
  }

  /** The weight of each step; 0: not now. */
  #possible(): [number, Step][] {
    const attached = this.#attached.length;
    const detached = this.#detached.length;
    const roomForDisk = this.#disks.length < maxDisks;
    const roomForFrozen = this.#frozen.length < maxFrozen;
    const some = this.#disks.length > 0;
    return [
      [roomForDisk ? 6 : 0, this.#create],
      [roomForDisk && this.#frozen.length > 0 ? 12 : 0, this.#clone],
      [detached > 0 ? 20 : 0, this.#attach],
      [attached > 0 ? 70 : 0, this.#burst],
      [attached > 0 ? 10 : 0, this.#flush],
      [attached > 0 ? 8 : 0, this.#detach],
      [attached > 0 ? 5 : 0, this.#drop],
      [some && roomForFrozen ? 12 : 0, this.#capture],
      [attached > 0 && roomForFrozen ? 10 : 0, this.#captureWhileWriting],
      [this.#frozen.length > 0 && roomForFrozen ? 4 : 0, this.#imageOfFrozen],
      [some ? 6 : 0, this.#grow],
      [this.#disks.length > 2 ? 6 : 0, this.#deleteDisk],
      [this.#frozen.length > 2 ? 10 : 0, this.#deleteFrozen],
      [attached > 0 ? 3 : 0, this.#attachAgain],
      [some ? 6 : 0, this.#collectGarbage],
      [some ? 8 : 0, this.#verify],
      [some ? 4 : 0, this.kill],
      [some ? 2 : 0, this.#restart],
    ];
  }

  get #attached(): (ModelDisk & { connection: ModelConnection })[] {
    return this.#disks.filter((disk): disk is ModelDisk & { connection: ModelConnection } => disk.connection !== undefined);
  }

  get #detached(): ModelDisk[] {
    return this.#disks.filter(({ connection }) => connection === undefined);
  }

  #note(text: string): void {
    this.trace.push(`${Math.round(performance.now() - this.#startedAtMs)} ${text}`);
  }

  async #create(): Promise<void> {
    const sizeBytes = unitBytes * (1 + this.#random.integer(4));
    const id = await this.#service.createDisk(sizeBytes);
    this.#note(`create ${id}, ${sizeBytes} bytes`);
    this.#disks.push({ id, content: new DiskBytes(Buffer.alloc(sizeBytes)), connection: undefined });
  }

  async #clone(): Promise<void> {
    const source = this.#random.pick(this.#frozen);
    const sizeBytes = Math.max(
      source.content.sizeBytes,
      Math.min(maxDiskBytes, source.content.sizeBytes + unitBytes * this.#random.integer(3)),
    );
    const $case = source.kind === 'image' ? 'imageId' : 'snapshotId';
    const id = await this.#service.createDisk(sizeBytes, { $case, value: source.id });
    this.#note(`clone ${source.id} to ${id}, ${sizeBytes} bytes`);
    this.#disks.push({ id, content: source.content.clone(sizeBytes), connection: undefined });
  }

  async #attach(): Promise<void> {
    await this.#open(this.#random.pick(this.#detached));
  }

  async #open(disk: ModelDisk): Promise<void> {
    this.#note(`attach ${disk.id}`);
    disk.connection = await this.#service.open(disk.id);
    disk.content.settle(await disk.connection.readAll(disk.content.sizeBytes));
  }

  async #burst(): Promise<void> {
    const { id, content, connection } = this.#random.pick(this.#attached);
    const requests = this.#random.requests(content.sizeBytes, this.#random.chance(0.2) ? 40 : 6);
    this.#note(`${requests.length} requests to ${id}`);
    connection.send(requests);
    this.#answered(content, await connection.outcomes());
  }

  /** Of a connection that lives. */
  #answered(content: DiskBytes, outcomes: readonly Outcome[]): void {
    for (const { request, error, data } of outcomes) {
      const where = `${request.kind} at ${request.offset} of ${request.length}`;
      if (error !== 0) throw new Error(`${where}: ${error === undefined ? 'not answered' : `errno ${error}`}`);
      // No two requests of a burst share a sector, so the order in which they are taken up is of no matter.
      if (request.kind !== 'read') content.acknowledged(request);
      else if (!data.equals(content.bytes.subarray(request.offset, request.offset + request.length)))
        throw new Error(`${where} is not what was written`);
    }
  }

  async #flush(): Promise<void> {
    const { id, content, connection } = this.#random.pick(this.#attached);
    this.#note(`flush ${id}`);
    await connection.flush();
    content.flushed();
  }

  async #detach(): Promise<void> {
    const disk = this.#random.pick(this.#attached);
    this.#note(`detach ${disk.id}`);
    await disk.connection.close();
    (disk as ModelDisk).connection = undefined;
  }

  /** The connection breaks, with requests under way. */
  async #drop(): Promise<void> {
    const disk = this.#random.pick(this.#attached);
    const requests = this.#random.chance(0.5) ? this.#random.requests(disk.content.sizeBytes, 10) : [];
    this.#note(`break the connection of ${disk.id} with ${requests.length} requests under way`);
    if (requests.length > 0) disk.connection.send(requests);
    if (this.#random.chance(0.5)) await sleep(this.#random.integer(10));
    disk.connection.drop();
    this.#interrupted(disk.content, await disk.connection.outcomes());
    (disk as ModelDisk).connection = undefined;
  }

  #interrupted(content: DiskBytes, outcomes: readonly Outcome[]): void {
    for (const { request, error } of outcomes) {
      if (request.kind === 'read') continue;
      if (error === 0) content.acknowledged(request);
      else content.unanswered(request);
    }
  }

  /** A snapshot or an image of a disk, as it is. */
  async #capture(): Promise<void> {
    const disk = this.#random.pick(this.#disks);
    const { kind, operation } = await this.#beginCapture(disk);
    await this.#service.done(operation);
    const frozen = await this.#captured(kind, operation, disk.content.fork());
    // Nothing was written meanwhile: what the capture has found, the disk is.
    if (disk.content.isUncertain) disk.content.settle(Buffer.from(frozen.content.bytes));
  }

  async #beginCapture(disk: ModelDisk): Promise<{ kind: Frozen['kind']; operation: Operation }> {
    const kind = this.#random.chance(0.7) ? 'snapshot' : 'image';
    const operation = await (kind === 'snapshot'
      ? this.#service.beginSnapshot(disk.id)
      : this.#service.beginImage({ $case: 'diskId', value: disk.id }));
    this.#note(`${kind} ${madeBy(operation)} of ${disk.id}${disk.connection === undefined ? '' : ', which is attached'}`);
    return { kind, operation };
  }

  async #captured(kind: Frozen['kind'], operation: Operation, content: DiskBytes): Promise<Frozen> {
    const frozen = { id: madeBy(operation), kind, content };
    content.settle(await this.#read(frozen.id, content.sizeBytes));
    this.#frozen.push(frozen);
    return frozen;
  }

  /** One write after another while the capture goes on: it holds the first so many of them, and no other. */
  async #captureWhileWriting(): Promise<void> {
    const disk = this.#random.pick(this.#attached);
    const expected = Buffer.from(disk.content.bytes);
    const { kind, operation } = await this.#beginCapture(disk);
    const progress = { isDone: false };
    const done = this.#service.done(operation).finally(() => (progress.isDone = true));
    done.catch(() => {});
    const changes: Change[] = [];
    do {
      const change = this.#random.change(disk.content.sizeBytes);
      changes.push(change);
      await disk.connection.change(change);
      disk.content.acknowledged(change);
    } while (!progress.isDone && changes.length < 200);
    await done;
    const id = madeBy(operation);
    const actual = await this.#read(id, disk.content.sizeBytes);
    let count = 0;
    for (; !actual.equals(expected) && count < changes.length; count += 1) apply(expected, changes[count]!);
    this.#note(`… with ${changes.length} writes meanwhile, ${count} of which it holds`);
    if (!actual.equals(expected)) throw new Error(`${kind} ${id} is no moment of disk ${disk.id}`);
    this.#frozen.push({ id, kind, content: new DiskBytes(actual) });
  }

  async #imageOfFrozen(): Promise<void> {
    const source = this.#random.pick(this.#frozen);
    const $case = source.kind === 'image' ? 'imageId' : 'snapshotId';
    const operation = await this.#service.beginImage({ $case, value: source.id });
    await this.#service.done(operation);
    this.#note(`image ${madeBy(operation)} of ${source.id}`);
    await this.#captured('image', operation, source.content.fork());
  }

  async #grow(): Promise<void> {
    const disk = this.#random.pick(this.#disks);
    const sizeBytes = disk.content.sizeBytes + unitBytes * (1 + this.#random.integer(2));
    if (disk.connection !== undefined)
      return this.#refused(`grow ${disk.id}, which is attached`, this.#service.growDisk(disk.id, sizeBytes));
    if (sizeBytes > maxDiskBytes) return;
    this.#note(`grow ${disk.id} to ${sizeBytes} bytes`);
    await this.#unattached(() => this.#service.growDisk(disk.id, sizeBytes));
    disk.content.grow(sizeBytes);
  }

  async #deleteDisk(): Promise<void> {
    const disk = this.#random.pick(this.#disks);
    const { client } = this.#service;
    if (disk.connection !== undefined) return this.#refused(`delete ${disk.id}, which is attached`, client.deleteDisk(disk.id));
    this.#note(`delete ${disk.id}`);
    await this.#unattached(() => client.deleteDisk(disk.id));
    this.#disks.splice(this.#disks.indexOf(disk), 1);
  }

  /** A connection that has broken may still be there for a moment. */
  async #unattached(call: () => Promise<Operation>): Promise<void> {
    for (const deadline = Date.now() + 60_000; ; await sleep(20)) {
      try {
        return await this.#service.done(await call());
      } catch (error) {
        if ((error as { code?: number }).code !== status.FAILED_PRECONDITION || Date.now() > deadline) throw error;
      }
    }
  }

  async #refused(what: string, call: Promise<Operation>): Promise<void> {
    this.#note(`${what}, in vain`);
    const refusal = await call.then(
      () => undefined,
      (error: { code: number }) => error,
    );
    if (refusal?.code !== status.FAILED_PRECONDITION) throw refusal ?? new Error(`${what}: it was not refused`);
  }

  async #deleteFrozen(): Promise<void> {
    const frozen = this.#random.pick(this.#frozen);
    this.#note(`delete ${frozen.id}`);
    const { client } = this.#service;
    await this.#service.done(await (frozen.kind === 'image' ? client.deleteImage(frozen.id) : client.deleteSnapshot(frozen.id)));
    this.#frozen.splice(this.#frozen.indexOf(frozen), 1);
  }

  async #attachAgain(): Promise<void> {
    const { id } = this.#random.pick(this.#attached);
    this.#note(`attach ${id} a second time, in vain`);
    const refusal = await this.#service.refusalOf(id);
    if (!/attached for writing since/.test(refusal)) throw new Error(`a second writer of ${id}: ${refusal}`);
  }

  async #collectGarbage(): Promise<void> {
    const waits = this.#random.chance(0.5);
    this.#note(`collect garbage${waits ? '' : ' meanwhile'}`);
    const run = this.#service.collectGarbage();
    if (waits) await run;
    // A kill may end it.
    else this.#background.push(run.catch(() => {}));
  }

  async #verify(): Promise<void> {
    const { id, content } = this.#random.pick([...this.#frozen, ...this.#detached, ...this.#attached]);
    const disk = this.#disks.find((each) => each.id === id);
    this.#note(`verify ${id}`);
    if (disk?.connection === undefined) content.settle(await this.#read(disk === undefined ? id : `${id}/ro`, content.sizeBytes));
    else if (!(await disk.connection.readAll(content.sizeBytes)).equals(content.bytes))
      throw new Error(`disk ${id} is not what was written`);
  }

  async #read(name: string, sizeBytes: number): Promise<Buffer> {
    const connection = await this.#service.open(name);
    const bytes = await connection.readAll(sizeBytes);
    await connection.close();
    return bytes;
  }

  /** kill -9 and a new start, in the midst of requests, a capture, garbage collection, or of nothing. */
  async kill(): Promise<void> {
    if (this.#disks.length === 0) await this.#create();
    const disk = this.#random.pick(this.#disks);
    const captured = disk.content.fork();
    const capture = this.#random.chance(0.4) && this.#frozen.length < maxFrozen ? await this.#beginCapture(disk) : undefined;
    const collecting = this.#random.chance(0.2) ? this.#service.collectGarbage().catch(() => {}) : undefined;
    if (this.#random.chance(0.6)) {
      for (const { content, connection } of this.#attached) connection.send(this.#random.requests(content.sizeBytes, 20));
    }
    const waitMs = this.#random.chance(0.3) ? 0 : this.#random.integer(this.#random.chance(0.5) ? 30 : 300);
    await sleep(waitMs);
    await this.#service.kill();
    this.#note(`kill -9 after ${waitMs} ms${collecting === undefined ? '' : ', while garbage is collected'}`);
    for (const each of this.#attached) {
      const outcomes = await each.connection.outcomes();
      this.#interrupted(each.content, outcomes);
      if (each.id === disk.id) for (const { request } of outcomes) if (request.kind !== 'read') captured.unanswered(request);
    }
    await this.#background.splice(0).reduce((before, each) => before.then(() => each), Promise.resolve() as Promise<unknown>);
    await collecting;
    // What was not flushed may be lost; of disks that were left before as well, if nobody has looked since.
    for (const each of this.#disks) {
      each.content.crashed();
      each.connection?.drop();
      each.connection = undefined;
    }
    await this.#service.start();
    if (capture === undefined) return;
    await this.#service.done(capture.operation);
    captured.crashed();
    await this.#captured(capture.kind, capture.operation, captured);
  }

  /** Ctrl-C: nothing that was answered is lost. */
  async #restart(): Promise<void> {
    this.#note('stop and start');
    await this.#service.stop();
    for (const disk of this.#attached) {
      disk.connection.drop();
      (disk as ModelDisk).connection = undefined;
    }
    await Promise.all(this.#background.splice(0));
    await this.#service.start();
  }

  /** Closes everything and looks at everything. */
  async finish(): Promise<void> {
    this.#note('the end');
    await Promise.all(this.#background.splice(0));
    for (const disk of this.#attached) {
      await disk.connection.close();
      (disk as ModelDisk).connection = undefined;
    }
    for (const { id, content } of this.#frozen) content.settle(await this.#read(id, content.sizeBytes));
    for (const { id, content } of this.#disks) content.settle(await this.#read(`${id}/ro`, content.sizeBytes));
  }

  /** Deletes everything. */
  async clear(): Promise<void> {
    while (this.#frozen.length > 0) await this.#deleteFrozen();
    while (this.#disks.length > 0) await this.#deleteDisk();
  }

  /** Whatever comes. */
  abandon(): void {
    for (const { connection } of this.#attached) connection.drop();
  }
}
