// A cpio archive in the format "newc", as a kernel takes for its first file system.

export interface ArchiveEntry {
  name: string;
  /** With the type of the file, as stat has it. */
  mode: number;
  content?: Uint8Array;
}

const padding = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);

/** Folders come before what is in them. */
export function newcArchive(entries: readonly ArchiveEntry[]): Buffer {
  const all = [...entries, { name: 'TRAILER!!!', mode: 0 }];
  return Buffer.concat(
    all.flatMap(({ name, mode, content = Buffer.alloc(0) }: ArchiveEntry, index) => {
      // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, checksum
      const fields = [index + 1, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0];
      const head = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`, 'latin1');
      return [head, padding(head.length), content, padding(content.length)];
    }),
  );
}
