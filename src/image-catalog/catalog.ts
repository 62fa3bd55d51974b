// The catalog of well-known cloud images: where each is published, where its checksum file is, and what it becomes here. The shipped one is
// catalog.json beside this file; a file of the operator's adds to it, replaces entries of the same family, and names mirrors.
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { StartError } from '../platform/start-error.ts';
import { parseSourceUri } from '../sources/source-uri.ts';
import { checksumFormats, plainName } from './checksum-file.ts';

const maxFileBytes = 1024 * 1024;

const httpUrl = z
  .string()
  .max(2048)
  .superRefine((text, context) => {
    try {
      const { url } = parseSourceUri(text);
      if (text.includes('#') || url.path.includes('?')) throw new Error('must not hold a query or a fragment');
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message.replace(/^uri: /, '') });
    }
  });

const prefix = httpUrl.refine((text) => text.endsWith('/'), 'must end in /');

const lastSegment = (url: string): string => url.slice(url.lastIndexOf('/') + 1);

const entry = z
  .strictObject({
    /** Of the images that are made; so short that `-v<yyyymmdd>-<n>` fits behind it into the 63 characters of a name. */
    family: z
      .string()
      .regex(/^[a-z][-a-z0-9]{1,49}[a-z0-9]$/, 'must be 3 to 51 lower-case letters, digits and hyphens, a letter first'),
    name: z.string().min(1).max(60),
    description: z.string().max(200).default(''),
    os: z.enum(['linux', 'windows']),
    /** At least the image's virtual size: an import with less fails. */
    minDiskGiB: z.int().min(1).max(4096),
    /** One `*` in the file's name stands for the newest that the checksum file names. */
    image: httpUrl,
    checksums: z.strictObject({ url: httpUrl, format: z.enum(checksumFormats), algorithm: z.enum(['sha256', 'sha512']) }),
    /** Whether an import from the real site was seen to work. */
    tried: z.boolean().default(false),
  })
  .superRefine(({ image, checksums }, context) => {
    const issue = (message: string) => context.addIssue({ code: 'custom', path: ['image'], message });
    const file = lastSegment(image);
    if (!plainName.test(file.replace('*', 'x'))) issue('must end in the name of a file, of letters, digits and - + . _ ~');
    const stars = image.split('*').length - 1;
    if (stars > 1 || (stars === 1 && !file.includes('*'))) issue('may hold one *, in the name of the file');
    if (stars > 0 && checksums.format === 'single')
      issue('holds a *, which a checksum file of the format "single" cannot resolve');
  });

const file = z.strictObject({
  /** The begin of URLs → what stands there instead, in all entries. */
  mirrors: z.record(prefix, prefix).default({}),
  images: z
    .array(entry)
    .max(1000)
    .default([])
    .refine((images) => new Set(images.map(({ family }) => family)).size === images.length, 'name a family twice'),
});

export type CatalogEntry = z.infer<typeof entry>;
type CatalogFile = z.infer<typeof file>;

const shippedFile = path.join(import.meta.dirname, 'catalog.json');

/**
 * The shipped catalog with what `ownFile` adds, in the order of the files.
 * @throws StartError naming the file and what is wrong with it.
 */
export async function readCatalog(ownFile?: string): Promise<CatalogEntry[]> {
  const shipped = await readCatalogFile(shippedFile);
  if (ownFile === undefined) return shipped.images;
  const own = await readCatalogFile(path.resolve(ownFile));
  const byFamily = new Map([...shipped.images, ...own.images].map((each) => [each.family, each]));
  return [...byFamily.values()].map((each) => mirrored(each, own.mirrors));
}

async function readCatalogFile(place: string): Promise<CatalogFile> {
  let content: unknown;
  try {
    const { size } = await stat(place);
    if (size > maxFileBytes) throw new Error(`it has ${size} bytes; at most ${maxFileBytes} are read`);
    content = JSON.parse(await readFile(place, 'utf8'));
  } catch (error) {
    throw new StartError(`Cannot read the image catalog ${place}: ${(error as Error).message}`, { cause: error });
  }
  const parsed = file.safeParse(content);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => `  ${issue.path.join('.') || 'the file'}: ${issue.message}`);
  throw new StartError(`The image catalog ${place} is not valid:\n${faults.slice(0, 20).join('\n')}`);
}

function mirrored(each: CatalogEntry, mirrors: CatalogFile['mirrors']): CatalogEntry {
  const longestFirst = Object.entries(mirrors).sort(([one], [other]) => other.length - one.length);
  const moved = (url: string): string => {
    const found = longestFirst.find(([from]) => url.startsWith(from));
    return found === undefined ? url : found[1] + url.slice(found[0].length);
  };
  return { ...each, image: moved(each.image), checksums: { ...each.checksums, url: moved(each.checksums.url) } };
}

/** @throws StartError when there is none. */
export function requireEntry(entries: readonly CatalogEntry[], family: string): CatalogEntry {
  const found = entries.find((each) => each.family === family);
  if (found === undefined) throw new StartError(`The image catalog has no family "${family}". See: obraz catalog list`);
  return found;
}
