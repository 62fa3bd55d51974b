// A Qcow2 of any size at no cost, every cluster of it allocated: its L1 entries all lead to one L2 table, whose entries all lead to the same
// few clusters. Good for reading only: its reference counts are not kept.
import { open } from 'node:fs/promises';

const clusterBits = 21;
const clusterBytes = 2 ** clusterBits;
const entriesPerTable = clusterBytes / 8;
const fills = 16;
const copied = 1n << 63n;

/** Cluster i of the guest is filled with byte 1 + i % 16. @param sizeBytes at most 4 TiB is what it is for. */
export async function writeMadeUpQcow2(file: string, sizeBytes: number): Promise<void> {
  const l1Size = Math.max(1, Math.ceil(sizeBytes / (entriesPerTable * clusterBytes)));
  const [l1At, l2At, dataAt] = [3, 4, 5].map((cluster) => cluster * clusterBytes) as [number, number, number];
  const header = Buffer.alloc(104);
  header.writeUInt32BE(0x514649fb, 0);
  header.writeUInt32BE(3, 4);
  header.writeUInt32BE(clusterBits, 20);
  header.writeBigUInt64BE(BigInt(sizeBytes), 24);
  header.writeUInt32BE(l1Size, 36);
  header.writeBigUInt64BE(BigInt(l1At), 40);
  header.writeBigUInt64BE(BigInt(clusterBytes), 48);
  header.writeUInt32BE(1, 56);
  header.writeUInt32BE(4, 96);
  header.writeUInt32BE(104, 100);
  const refcountTable = Buffer.alloc(8);
  refcountTable.writeBigUInt64BE(BigInt(2 * clusterBytes));
  const l1 = Buffer.alloc(l1Size * 8);
  for (let index = 0; index < l1Size; index += 1) l1.writeBigUInt64BE(BigInt(l2At) | copied, index * 8);
  const l2 = Buffer.alloc(clusterBytes);
  for (let index = 0; index < entriesPerTable; index += 1)
    l2.writeBigUInt64BE(BigInt(dataAt + (index % fills) * clusterBytes) | copied, index * 8);
  const handle = await open(file, 'w');
  try {
    await handle.write(header, 0, header.length, 0);
    await handle.write(refcountTable, 0, refcountTable.length, clusterBytes);
    await handle.write(l1, 0, l1.length, l1At);
    await handle.write(l2, 0, l2.length, l2At);
    for (let fill = 0; fill < fills; fill += 1)
      await handle.write(Buffer.alloc(clusterBytes, fill + 1), 0, clusterBytes, dataAt + fill * clusterBytes);
  } finally {
    await handle.close();
  }
}
