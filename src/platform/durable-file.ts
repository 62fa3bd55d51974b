// Small files that are there, whole, after a power cut.
import { open, rename, stat } from 'node:fs/promises';
import path from 'node:path';

/**
 * Writes a file of mode 0600: whole or not at all, on the disk when it resolves. One writer at a time.
 * @param owner whose it becomes; default: this process's user.
 */
export async function writeDurably(file: string, text: string, owner?: { uid: number; gid: number }): Promise<void> {
  const temporary = `${file}.new`;
  const handle = await open(temporary, 'w', 0o600);
  try {
    if (owner !== undefined) await handle.chown(owner.uid, owner.gid);
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await renameDurably(temporary, file);
}

/** Renames within one folder; the folder holds the new name when it resolves. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncFolder(path.dirname(to));
}

/** Waits until the names in a folder are on the disk. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export const exists = (file: string): Promise<boolean> =>
  stat(file).then(
    () => true,
    () => false,
  );
