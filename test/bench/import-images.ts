// What bench:import imports: one disk of 4 GiB with an ext4 file system of real files, in every format that is read.
import { mkdir, rm, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { run } from './figures.ts';

export interface BenchImage {
  file: string;
  /** For qemu-img -f. */
  format: string;
  convert: readonly string[];
  compressed: boolean;
}

export const benchImages: Readonly<Record<string, BenchImage>> = {
  plain: { file: 'plain.qcow2', format: 'qcow2', convert: ['-O', 'qcow2'], compressed: false },
  zlib: { file: 'zlib.qcow2', format: 'qcow2', convert: ['-c', '-O', 'qcow2'], compressed: true },
  zstd: { file: 'zstd.qcow2', format: 'qcow2', convert: ['-c', '-O', 'qcow2', '-o', 'compression_type=zstd'], compressed: true },
  vmdk: { file: 'sparse.vmdk', format: 'vmdk', convert: ['-O', 'vmdk', '-o', 'subformat=monolithicSparse'], compressed: false },
  stream: { file: 'stream.vmdk', format: 'vmdk', convert: ['-O', 'vmdk', '-o', 'subformat=streamOptimized'], compressed: true },
  vhd: { file: 'dynamic.vhd', format: 'vpc', convert: ['-O', 'vpc', '-o', 'subformat=dynamic,force_size=on'], compressed: false },
  fixed: { file: 'fixed.vhd', format: 'vpc', convert: ['-O', 'vpc', '-o', 'subformat=fixed,force_size=on'], compressed: false },
  raw: { file: 'disk.raw', format: 'raw', convert: [], compressed: false },
};

const virtualSize = '4G';
const contentBytes = 1_200_000_000;

/** disk.raw in the folder: about 1.2 GB of this machine's own files, the rest holes. @returns bytes that it holds. */
export async function makeDisk(directory: string): Promise<number> {
  const raw = path.join(directory, 'disk.raw');
  const content = path.join(directory, 'content');
  await mkdir(content);
  const list = path.join(directory, 'list');
  await must('sh', ['-c', `cd /usr && find . -type f -size -20M 2>/dev/null | head -80000 > ${list}`]);
  await must('sh', ['-c', `cd /usr && tar -cf - -T ${list} 2>/dev/null | head -c ${contentBytes} > ${content}/files.tar`]);
  await must('mke2fs', ['-q', '-t', 'ext4', '-d', content, raw, virtualSize]);
  await rm(content, { recursive: true });
  await unlink(list);
  return (await stat(raw)).blocks * 512;
}

/** The disk in one of the formats, made when it is not there. @returns the file's size, bytes. */
export async function makeImage(directory: string, { file, format, convert }: BenchImage): Promise<number> {
  const target = path.join(directory, file);
  if (format !== 'raw') await must('qemu-img', ['convert', '-f', 'raw', ...convert, path.join(directory, 'disk.raw'), target]);
  return (await stat(target)).size;
}

async function must(command: string, args: string[]): Promise<void> {
  const { ok } = await run(command, args);
  if (!ok) throw new Error(`${command} failed`);
}
