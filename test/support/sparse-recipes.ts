// Recipes for VMDK and VHD images: what qemu-img is asked for, and the matrices that the decoders are compared over.
import { rename, rm } from 'node:fs/promises';
import { cachedFile, type GuestData, qemuImg, qemuIo, scratchPath, writeGuest } from './images.ts';
import { randomFrom } from './sample.ts';
import { guestData } from './qcow2-recipes.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

export interface SparseRecipe {
  /** qemu's driver and what it is asked for. */
  driver: 'vmdk' | 'vpc';
  options: string;
  sizeBytes: number;
  /** converted: in guest order by qemu-img; shuffled: by qemu-io in random order, which streamOptimized and fixed disks do not allow. */
  layout: 'converted' | 'shuffled';
  holes?: 'none' | 'both-ends' | 'alternating';
  seed: number;
}

function commands({ sizeBytes, options }: SparseRecipe, seed: number): string[] {
  const random = randomFrom(seed);
  return Array.from({ length: 50 }, () => {
    const at = Math.floor((random() * sizeBytes) / 512) * 512;
    const length = Math.min(sizeBytes - at, 512 * Math.ceil(random() * random() * 300));
    if (options.includes('zeroed_grain') && random() < 0.3) {
      const grain = Math.floor(at / (64 * KiB)) * 64 * KiB;
      if (grain + 64 * KiB <= sizeBytes) return `write -z ${grain} ${64 * KiB}`;
    }
    return `write -P ${1 + Math.floor(random() * 255)} ${at} ${length}`;
  });
}

/** The path of the image. */
export const makeSparse = (recipe: SparseRecipe): Promise<string> =>
  cachedFile({ sparse: recipe, revision: 2 }, async (path) => {
    const { driver, options, sizeBytes, seed } = recipe;
    if (recipe.layout === 'converted') {
      const raw = scratchPath();
      try {
        const pieces: GuestData[] = guestData(sizeBytes, 64 * KiB, recipe.holes ?? 'both-ends', seed);
        writeGuest(raw, sizeBytes, pieces, seed);
        await qemuImg('convert', '-f', 'raw', '-O', driver, '-o', options, raw, path);
      } finally {
        await rm(raw, { force: true });
      }
      return;
    }
    const image = `${path}.making`;
    try {
      await qemuImg('create', '-f', driver, '-o', options, image, String(sizeBytes));
      await qemuIo(image, driver, commands(recipe, seed));
      await rename(image, path);
    } finally {
      await rm(image, { force: true });
    }
  });

const around = (boundary: number): number[] => [boundary - 512, boundary, boundary + 512].filter((size) => size > 0);

function matrix(
  driver: SparseRecipe['driver'],
  /** `few`: what changes nothing but the descriptor. */
  variants: { options: string; canShuffle: boolean; few?: boolean }[],
  boundaries: number[],
): SparseRecipe[] {
  const recipes: Omit<SparseRecipe, 'seed'>[] = [];
  for (const { options, canShuffle, few } of variants) {
    if (few === true) {
      for (const sizeBytes of [512, 5 * MiB + 1536]) recipes.push({ driver, options, sizeBytes, layout: 'converted' });
      continue;
    }
    for (const sizeBytes of new Set(boundaries.flatMap(around)))
      recipes.push({ driver, options, sizeBytes, layout: 'converted' });
    for (const holes of ['none', 'both-ends', 'alternating'] as const)
      recipes.push({ driver, options, sizeBytes: 5 * MiB + 1536, layout: 'converted', holes });
    if (canShuffle)
      for (const sizeBytes of [64 * KiB + 512, 5 * MiB + 1536, 70 * MiB])
        recipes.push({ driver, options, sizeBytes, layout: 'shuffled' });
  }
  return recipes.map((recipe, index) => Object.assign(recipe, { seed: index + 1 }));
}

export const vmdkMatrix = (): SparseRecipe[] =>
  matrix(
    'vmdk',
    [
      { options: 'subformat=monolithicSparse', canShuffle: true },
      { options: 'subformat=monolithicSparse,zeroed_grain=on', canShuffle: true },
      { options: 'subformat=streamOptimized', canShuffle: false },
      ...['buslogic', 'lsilogic', 'legacyESX'].map((adapter) => ({
        options: `subformat=monolithicSparse,adapter_type=${adapter}`,
        canShuffle: true,
        few: true,
      })),
      { options: 'subformat=streamOptimized,adapter_type=lsilogic,hwversion=21,toolsversion=1', canShuffle: false, few: true },
      { options: 'subformat=monolithicSparse,compat6=on', canShuffle: true, few: true },
    ],
    // A sector, a grain, a chunk, a grain table's 32 MiB, and sixteen of them.
    [512, 64 * KiB, 4 * MiB, 32 * MiB, 512 * MiB],
  );

export const vhdMatrix = (): SparseRecipe[] =>
  matrix(
    'vpc',
    ['subformat=dynamic', 'subformat=fixed'].flatMap((subformat) =>
      ['', ',force_size=on'].map((force) => ({ options: subformat + force, canShuffle: subformat.includes('dynamic') })),
    ),
    // A sector, a block of 2 MiB, a chunk, and what takes a table of several sectors.
    [512, 2 * MiB, 4 * MiB, 512 * MiB],
  );
