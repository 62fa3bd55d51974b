// Disks against the tools that people use today, in turn, in one run: how long a disk of an image takes (clones), how fast one is read and
// written over NBD beside qemu-nbd on the same bytes (reads, writes), and what a snapshot costs beside a copy (snapshots).
// `node test/bench/main.ts disks [clones|reads|writes|snapshots …]`. The page cache is warm and on for both sides everywhere.
import { benchClones } from './disks-clones.ts';
import { benchReads, benchWrites } from './disks-io.ts';
import { benchSnapshots } from './disks-snapshots.ts';
import { hasTool } from './figures.ts';

const parts: Readonly<Record<string, () => Promise<void>>> = {
  clones: benchClones,
  reads: benchReads,
  writes: benchWrites,
  snapshots: benchSnapshots,
};

export async function benchDisks(names: readonly string[]): Promise<void> {
  for (const tool of ['qemu-img', 'qemu-nbd', 'qemu-io', 'nbdcopy', 'cp']) {
    if (hasTool(tool)) continue;
    console.warn(`SKIPPED: ${tool} is not installed`);
    return;
  }
  const unknown = names.filter((name) => !Object.hasOwn(parts, name));
  if (unknown.length > 0) throw new Error(`no such part: ${unknown.join(', ')}; there are ${Object.keys(parts).join(', ')}`);
  for (const name of names.length > 0 ? names : Object.keys(parts)) {
    console.log(`\n-- ${name}`);
    await parts[name]!();
  }
}
