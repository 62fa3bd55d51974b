// Recipes for Qcow2 images: what qemu-img is asked for, and the matrix that the decoder is compared over.
import { rename, rm } from 'node:fs/promises';
import { cachedFile, type GuestData, qemuImg, qemuIo, scratchPath, writeGuest } from './images.ts';
import { randomFrom } from './sample.ts';

export interface Qcow2Recipe {
  sizeBytes: number;
  clusterBytes: number;
  compat?: '0.10' | '1.1';
  /** How clusters are stored. `mixed` compresses some of them. */
  packed?: 'none' | 'zlib' | 'zstd';
  extendedL2?: boolean;
  lazyRefcounts?: boolean;
  refcountBits?: number;
  /** The writer is killed at the end: with lazy refcounts the dirty bit stays set. */
  aborted?: boolean;
  /** Persistent bitmaps: a header extension, and clusters that are no guest's. */
  bitmaps?: boolean;
  preallocation?: 'off' | 'metadata' | 'falloc' | 'full';
  /**
   * converted   written in guest order by qemu-img convert
   * shuffled    written by qemu-io in random order, with zero writes, discards and overwrites
   * snapshots   shuffled, with two internal snapshots in between
   */
  layout: 'converted' | 'shuffled' | 'snapshots';
  /** Where converted data lies. */
  holes?: 'none' | 'both-ends' | 'alternating';
  seed: number;
}

const KiB = 1024;
const MiB = 1024 * KiB;

function options(recipe: Qcow2Recipe): string {
  return [
    `cluster_size=${recipe.clusterBytes}`,
    `compat=${recipe.compat ?? '1.1'}`,
    ...(recipe.packed === 'zstd' ? ['compression_type=zstd'] : []),
    ...(recipe.extendedL2 ? ['extended_l2=on'] : []),
    ...(recipe.lazyRefcounts ? ['lazy_refcounts=on'] : []),
    ...(recipe.refcountBits === undefined ? [] : [`refcount_bits=${recipe.refcountBits}`]),
    ...(recipe.preallocation === undefined ? [] : [`preallocation=${recipe.preallocation}`]),
  ].join(',');
}

/** Data runs of a few clusters; where the disk is large, only near both ends and in the middle. */
export function guestData(sizeBytes: number, clusterBytes: number, holes: Qcow2Recipe['holes'], seed: number): GuestData[] {
  const random = randomFrom(seed);
  const pieces: GuestData[] = [];
  const anyKind = (): GuestData['kind'] => (random() < 0.6 ? 'text' : 'noise');
  const span = Math.min(sizeBytes, 6 * MiB);
  const regions =
    sizeBytes <= 2 * span
      ? [[0, sizeBytes]]
      : [
          [0, span],
          [Math.floor(sizeBytes / 2), span],
          [sizeBytes - span, span],
        ];
  for (const [start, length] of regions as [number, number][]) {
    const end = start + length;
    if (holes === 'none') pieces.push({ at: start, length, kind: anyKind() });
    else
      for (let at = start; at < end;) {
        const hole = holes === 'alternating' ? clusterBytes : Math.ceil(random() * 5) * Math.ceil(clusterBytes / 2);
        const run = holes === 'alternating' ? clusterBytes : Math.ceil(random() * 6 * clusterBytes);
        at += hole;
        if (at < end) pieces.push({ at, length: Math.min(run, end - at), kind: anyKind() });
        at += run;
      }
  }
  const isAtEnd = (piece: GuestData): boolean => holes === 'both-ends' && piece.at + piece.length > sizeBytes - clusterBytes;
  return pieces
    .filter((piece) => !isAtEnd(piece))
    .map(({ at, length, kind }) => ({ at: Math.floor(at / 512) * 512, length, kind }));
}

/** Writes in random order over the whole disk: some of a sector, some over cluster borders, some of zeros. */
function commands(recipe: Qcow2Recipe, count: number, seed: number, touched: Set<number>): string[] {
  const random = randomFrom(seed);
  const { sizeBytes, clusterBytes, packed } = recipe;
  const clusters = Math.ceil(sizeBytes / clusterBytes);
  return Array.from({ length: count }, () => {
    const dice = random();
    const cluster = Math.floor(random() * clusters);
    const at = cluster * clusterBytes;
    const whole = Math.min(clusterBytes, sizeBytes - at);
    const pattern = 1 + Math.floor(random() * 255);
    // qemu refuses a compressed write to a cluster that is already there.
    if (packed !== undefined && packed !== 'none' && dice < 0.4 && whole === clusterBytes && !touched.has(cluster)) {
      touched.add(cluster);
      return `write -c -P ${pattern} ${at} ${whole}`;
    }
    const offset = Math.min(sizeBytes - 512, at + Math.floor((random() * clusterBytes) / 512) * 512);
    const length = Math.min(sizeBytes - offset, 512 * Math.ceil((random() * random() * 3 * clusterBytes) / 512 + 0.01));
    for (let each = cluster; each * clusterBytes < offset + length; each += 1) touched.add(each);
    if (dice < 0.5) return `write -z ${recipe.compat === '0.10' ? '' : '-u '}${offset} ${length}`;
    if (dice < 0.56) return `write -z ${at} ${whole}`;
    if (dice < 0.62) return `discard ${at} ${whole}`;
    return `write -P ${pattern} ${offset} ${length}`;
  });
}

/** The path of the image. */
export const makeQcow2 = (recipe: Qcow2Recipe): Promise<string> =>
  cachedFile({ qcow2: recipe, revision: 5 }, async (path) => {
    if (recipe.layout === 'converted') {
      const raw = scratchPath();
      try {
        const holes = recipe.holes ?? 'both-ends';
        writeGuest(raw, recipe.sizeBytes, guestData(recipe.sizeBytes, recipe.clusterBytes, holes, recipe.seed), recipe.seed);
        const pack = recipe.packed === undefined || recipe.packed === 'none' ? [] : ['-c'];
        await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...pack, '-o', options(recipe), raw, path);
      } finally {
        await rm(raw, { force: true });
      }
      return;
    }
    const image = `${path}.making`;
    const touched = new Set<number>();
    try {
      await qemuImg('create', '-f', 'qcow2', '-o', options(recipe), image, String(recipe.sizeBytes));
      await qemuIo(image, 'qcow2', commands(recipe, 60, recipe.seed, touched), '-d', 'unmap');
      if (recipe.layout === 'snapshots') {
        await qemuImg('snapshot', '-c', 'first', image);
        await qemuIo(image, 'qcow2', commands(recipe, 40, recipe.seed + 1, touched), '-d', 'unmap');
        await qemuImg('snapshot', '-c', 'second', image);
        await qemuIo(image, 'qcow2', commands(recipe, 20, recipe.seed + 2, touched), '-d', 'unmap');
      }
      if (recipe.bitmaps) for (const name of ['one', 'two']) await qemuImg('bitmap', '--add', image, name);
      if (recipe.bitmaps) await qemuIo(image, 'qcow2', commands(recipe, 20, recipe.seed + 3, touched), '-d', 'unmap');
      if (recipe.aborted) {
        // The signal is the end that is meant.
        const killed = qemuIo(
          image,
          'qcow2',
          [...commands(recipe, 20, recipe.seed + 4, touched), 'flush', 'abort'],
          '-d',
          'unmap',
        );
        await killed.then(
          () => Promise.reject(new Error('qemu-io outlived its abort')),
          (error: { signal?: string }) => (error.signal === 'SIGABRT' ? undefined : Promise.reject(error as Error)),
        );
      }
      await rename(image, path);
    } finally {
      await rm(image, { force: true });
    }
  });

const clusterSizes = [9, 10, 12, 14, 16, 17, 19, 21].map((bits) => 2 ** bits);

/** Bytes of the disk that one L2 table maps. */
const l2Coverage = (clusterBytes: number, entryBytes: number): number => (clusterBytes / entryBytes) * clusterBytes;

function sizesAround(boundary: number): number[] {
  return [boundary - 512, boundary, boundary + 512].filter((size) => size > 0);
}

/** Every combination that is worth a file; `npm test` takes a sample of it. */
export function qcow2Matrix(): Qcow2Recipe[] {
  const recipes: Omit<Qcow2Recipe, 'seed'>[] = [];
  for (const clusterBytes of clusterSizes) {
    const coverage = l2Coverage(clusterBytes, 8);
    const boundaries = [512, 1024, clusterBytes, 4 * MiB, ...(coverage <= 4096 * MiB ? [coverage] : [])];
    const sizes = [...new Set(boundaries.flatMap(sizesAround))];
    for (const sizeBytes of sizes) {
      recipes.push({ sizeBytes, clusterBytes, layout: 'converted' });
      recipes.push({ sizeBytes, clusterBytes, layout: 'converted', packed: 'zlib' });
    }
    const sizeBytes = 5 * MiB + 3 * 512;
    for (const packed of ['none', 'zlib', 'zstd'] as const)
      for (const layout of ['converted', 'shuffled', 'snapshots'] as const)
        for (const holes of layout === 'converted' ? (['none', 'both-ends', 'alternating'] as const) : [undefined])
          recipes.push({ sizeBytes, clusterBytes, packed, layout, ...(holes === undefined ? {} : { holes }) });
    for (const layout of ['converted', 'shuffled', 'snapshots'] as const)
      recipes.push(
        { sizeBytes, clusterBytes, compat: '0.10', layout },
        { sizeBytes, clusterBytes, compat: '0.10', packed: 'zlib', layout },
      );
    for (const preallocation of ['metadata', 'falloc', 'full'] as const)
      for (const layout of ['converted', 'shuffled'] as const) recipes.push({ sizeBytes, clusterBytes, preallocation, layout });
    recipes.push(
      { sizeBytes, clusterBytes, lazyRefcounts: true, layout: 'shuffled' },
      { sizeBytes, clusterBytes, lazyRefcounts: true, aborted: true, layout: 'shuffled' },
      { sizeBytes, clusterBytes, bitmaps: true, layout: 'snapshots' },
    );
    if (clusterBytes >= 16 * KiB) {
      const extended = l2Coverage(clusterBytes, 16);
      for (const size of [...sizesAround(clusterBytes), ...(extended <= 1024 * MiB ? sizesAround(extended) : [])])
        recipes.push({ sizeBytes: size, clusterBytes, extendedL2: true, layout: 'converted' });
      for (const packed of ['none', 'zlib', 'zstd'] as const)
        for (const layout of ['converted', 'shuffled', 'snapshots'] as const)
          recipes.push({ sizeBytes, clusterBytes, packed, extendedL2: true, layout });
      recipes.push({ sizeBytes, clusterBytes, extendedL2: true, preallocation: 'metadata', layout: 'shuffled' });
    }
  }
  // The sizes in between, in fewer ways.
  for (const clusterBytes of [11, 13, 15, 18, 20].map((bits) => 2 ** bits))
    for (const sizeBytes of [...sizesAround(clusterBytes), 5 * MiB + 3 * 512])
      recipes.push(
        { sizeBytes, clusterBytes, layout: 'shuffled' },
        { sizeBytes, clusterBytes, packed: 'zlib', layout: 'converted' },
        { sizeBytes, clusterBytes, packed: 'zstd', layout: 'snapshots' },
        ...(clusterBytes >= 16 * KiB ? ([{ sizeBytes, clusterBytes, extendedL2: true, layout: 'shuffled' }] as const) : []),
      );
  for (const refcountBits of [1, 2, 4, 8, 16, 32, 64])
    for (const layout of ['converted', 'shuffled'] as const)
      recipes.push({ sizeBytes: 3 * MiB + 512, clusterBytes: 64 * KiB, refcountBits, layout });
  return recipes.map((recipe, index) => Object.assign(recipe, { seed: index + 1 }));
}

/** `zstd 64K clusters, shuffled, 5.0 MiB …` for a test's name. */
export const describeRecipe = (recipe: Qcow2Recipe): string =>
  Object.entries(recipe)
    .filter(([name]) => name !== 'seed')
    .map(([name, value]) => (value === true ? name : `${name} ${value}`))
    .join(', ');
