// A disk image that a PC boots by itself: a boot loader, a kernel and a small user land from Debian's packages, on a partition made with
// `mke2fs -d`. Made once and kept with the images of images.ts. What the machine does at every start stands in `initScript`.
//
//   sector 0                boot.img with the partition table
//   sector 1 …              core.img, which has its driver for ext4 and its commands inside
//   1 MiB …                 ext4: /boot/vmlinuz, /boot/initrd.img, /bin/busybox, /sbin/init
import { execFile, execFileSync } from 'node:child_process';
import { chmod, copyFile, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { cachedFile, qemuImg, scratchPath } from './images.ts';
import { newcArchive } from './newc-archive.ts';

const run = promisify(execFile);
const MiB = 1024 * 1024;
const sectorBytes = 512;
const partitionAt = MiB;
/** mke2fs is where not everybody looks. */
const environment = { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };

/** Increased when the image would be another one for other reasons than its scripts. */
const revision = 1;
export const bootableImageBytes = 64 * MiB;

const meta = 'linux-image-cloud-amd64';

/** What the machine needs to find its disk, with what these need; what is built into the kernel is not there as a module. */
const wantedModules = ['virtio_pci', 'virtio_blk', 'ext4'];

const loaderScript = `linux (hd0,msdos1)/boot/vmlinuz console=ttyS0 quiet panic=-1
initrd (hd0,msdos1)/boot/initrd.img
boot
`;

const initialScript = (modules: readonly string[]): string => `#!/bin/busybox sh
busybox() { /bin/busybox "$@"; }
busybox mount -t devtmpfs dev /dev
for module in ${modules.join(' ')}; do busybox insmod /lib/$module.ko; done
tries=0
while [ ! -b /dev/vda1 ] && [ $tries -lt 600 ]; do busybox sleep 0.1; tries=$((tries + 1)); done
busybox mount -t ext4 /dev/vda1 /root
busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
`;

/**
 * Says on the console \`machine: booted\`, \`machine: found <what earlier starts left>\`, \`machine: wrote <id>\`, and goes off. Every start
 * leaves a line in /starts and, with its sums in /sums, two MiB of noise.
 */
const initScript = `#!/bin/busybox sh
busybox() { /bin/busybox "$@"; }
say() { echo "machine: $*"; }
busybox mount -t proc proc /proc
say booted
if [ -e /starts ]; then
  busybox sha256sum -c -s /sums && say "sums are good"
  while read -r id; do say "found $id"; done < /starts
fi
busybox fstrim / && say trimmed
id=$(busybox cat /proc/sys/kernel/random/uuid)
echo "$id" >> /starts
busybox dd if=/dev/urandom of="/noise-$id" bs=64k count=32 2> /dev/null
busybox sha256sum "/noise-$id" >> /sums
busybox sync
say "wrote $id"
busybox mount -o remount,ro /
busybox poweroff -f
`;

const packageTools = ['qemu-img', 'mke2fs', 'dpkg-deb', 'apt-get', 'apt-cache'];

/** The image; on a machine that cannot make it the suite's tests are skipped, loudly. In a `before` with minutes of time. */
export async function requireBootableImage(context: Mocha.Context): Promise<string> {
  const missing = packageTools.filter((tool) => !isThere(tool));
  try {
    if (missing.length > 0) throw new NoPackagesError(`${missing.join(', ')} not installed`);
    if (process.arch !== 'x64') throw new NoPackagesError('this is no amd64 machine');
    return await bootableImage();
  } catch (error) {
    if (!(error instanceof NoPackagesError)) throw error;
    console.warn(`SKIPPED: no machine was booted: ${error.message}`);
    return context.skip();
  }
}

export function isThere(tool: string): boolean {
  try {
    execFileSync('/bin/sh', ['-c', 'command -v "$0"', tool], { env: environment, stdio: 'ignore', timeout: 10_000 });
    return true;
  } catch {
    return false;
  }
}

class NoPackagesError extends Error {}

/** The path of a Qcow2. @throws NoPackagesError when the packages cannot be had. */
const bootableImage = (): Promise<string> =>
  cachedFile({ bootable: revision, scripts: [loaderScript, initialScript([]), initScript] }, make);

async function make(target: string): Promise<void> {
  const folder = scratchPath();
  await mkdir(folder);
  try {
    const packages = await unpackPackages(folder);
    const root = await rootFolder(folder, packages);
    const fileSystem = path.join(folder, 'root.ext4');
    const sizeKiB = (bootableImageBytes - partitionAt) / 1024;
    await run('mke2fs', ['-q', '-t', 'ext4', '-m', '0', '-d', root, fileSystem, `${sizeKiB}k`], { env: environment });
    const raw = path.join(folder, 'disk.raw');
    await writeFile(raw, await wholeDisk(packages, path.join(folder, 'core.img'), fileSystem));
    await qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, target);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Downloads the packages by apt's own lists, and unpacks them into one folder, which it answers. */
async function unpackPackages(folder: string): Promise<string> {
  const into = path.join(folder, 'packages');
  await mkdir(into);
  try {
    const { stdout } = await run('apt-cache', ['depends', '--important', meta], { env: environment, timeout: 60_000 });
    const kernel = /Depends: (linux-image-\S+)/.exec(stdout)?.[1];
    if (kernel === undefined) throw new Error(`apt knows no ${meta}`);
    const names = [kernel, 'busybox-static', 'grub-pc-bin', 'grub-common'];
    // As root apt gives its rights away, to a user who may not write here; that is only a warning.
    await run('apt-get', ['-q', 'download', '-o', 'APT::Sandbox::User=root', ...names], {
      cwd: into,
      env: environment,
      timeout: 240_000,
    });
  } catch (error) {
    throw new NoPackagesError(`Debian's packages could not be downloaded: ${(error as Error).message}`, { cause: error });
  }
  for (const name of await readdir(into)) {
    const file = path.join(into, name);
    await run('dpkg-deb', ['-x', file, into], { env: environment, timeout: 120_000 });
    await rm(file);
  }
  return into;
}

async function rootFolder(folder: string, packages: string): Promise<string> {
  const root = path.join(folder, 'root');
  for (const each of ['bin', 'sbin', 'boot', 'dev', 'proc']) await mkdir(path.join(root, each), { recursive: true });
  const kernel = (await readdir(path.join(packages, 'boot'))).find((name) => name.startsWith('vmlinuz-'))!;
  const busybox = await only([path.join(packages, 'bin/busybox'), path.join(packages, 'usr/bin/busybox')]);
  await copyFile(path.join(packages, 'boot', kernel), path.join(root, 'boot/vmlinuz'));
  await copyFile(busybox, path.join(root, 'bin/busybox'));
  await symlink('busybox', path.join(root, 'bin/sh'));
  await writeFile(path.join(root, 'sbin/init'), initScript);
  await chmod(path.join(root, 'sbin/init'), 0o755);
  const modules = await modulesOf(packages, kernel.slice('vmlinuz-'.length));
  const archive = newcArchive([
    { name: 'bin', mode: 0o40755 },
    { name: 'dev', mode: 0o40755 },
    { name: 'lib', mode: 0o40755 },
    { name: 'root', mode: 0o40755 },
    { name: 'bin/busybox', mode: 0o100755, content: await readFile(busybox) },
    ...[...modules].map(([name, content]) => ({ name: `lib/${name}.ko`, mode: 0o100644, content })),
    { name: 'init', mode: 0o100755, content: Buffer.from(initialScript([...modules.keys()])) },
  ]);
  await writeFile(path.join(root, 'boot/initrd.img'), gzipSync(archive, { level: 1 }));
  return root;
}

async function only(candidates: readonly string[]): Promise<string> {
  for (const each of candidates) if ((await stat(each).catch(() => undefined)) !== undefined) return each;
  throw new Error(`none of ${candidates.join(', ')} is there`);
}

/** Bytes of the modules by name, each after those that it needs. */
async function modulesOf(packages: string, release: string): Promise<Map<string, Buffer>> {
  const folder = await only(['lib', 'usr/lib'].map((lib) => path.join(packages, lib, 'modules', release, 'kernel')));
  const files = new Map<string, string>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const name = /^(.*)\.ko(\.xz)?$/.exec(entry.name)?.[1];
    if (name !== undefined) files.set(name.replaceAll('-', '_'), path.join(entry.parentPath, entry.name));
  }
  const found = new Map<string, Buffer>();
  const add = async (name: string): Promise<void> => {
    const file = files.get(name);
    if (file === undefined || found.has(name)) return;
    const content = await moduleBytes(file);
    const needs = /\0depends=([^\0]*)\0/.exec(content.toString('latin1'))?.[1] ?? '';
    for (const each of needs.split(',')) await add(each.replaceAll('-', '_'));
    found.set(name, content);
  };
  for (const each of wantedModules) await add(each);
  return found;
}

async function moduleBytes(file: string): Promise<Buffer> {
  if (!file.endsWith('.xz')) return readFile(file);
  return (await run('xz', ['-dc', file], { encoding: 'buffer', maxBuffer: 64 * MiB, timeout: 60_000 })).stdout;
}

/** The boot loader, the partition table and the partition. */
async function wholeDisk(packages: string, coreFile: string, fileSystemFile: string): Promise<Buffer> {
  const modules = path.join(packages, 'usr/lib/grub/i386-pc');
  const script = `${coreFile}.cfg`;
  await writeFile(script, loaderScript);
  await run(
    path.join(packages, 'usr/bin/grub-mkimage'),
    [
      '-O',
      'i386-pc',
      '-d',
      modules,
      '-p',
      '(hd0,msdos1)/boot',
      '-c',
      script,
      '-o',
      coreFile,
      'biosdisk',
      'part_msdos',
      'ext2',
      'linux',
    ],
    { env: environment, timeout: 60_000 },
  );
  const [boot, core, fileSystem] = await Promise.all([
    readFile(path.join(modules, 'boot.img')),
    readFile(coreFile),
    readFile(fileSystemFile),
  ]);
  if (core.length > partitionAt - sectorBytes) throw new Error(`a boot loader of ${core.length} bytes is too large`);
  const disk = Buffer.alloc(partitionAt + fileSystem.length);
  boot.copy(disk);
  disk.fill(0, 446, 510);
  disk.set([0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff], 446);
  disk.writeUInt32LE(partitionAt / sectorBytes, 454);
  disk.writeUInt32LE(fileSystem.length / sectorBytes, 458);
  disk.writeUInt16BE(0x55aa, 510);
  core.copy(disk, sectorBytes);
  fileSystem.copy(disk, partitionAt);
  return disk;
}
