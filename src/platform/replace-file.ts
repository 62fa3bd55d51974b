import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';

/**
 * Writes a small file so that readers see the old text or the new one whole, also after a crash: a temporary file beside it, synced,
 * then renamed. `mode` is that of the file, whatever was there before; nobody else ever sees a secret in between. One writer at a time.
 */
export async function replaceFile(file: string, text: string, mode = 0o600): Promise<void> {
  const temporary = `${file}.tmp`;
  // What a crash left behind.
  await rm(temporary, { force: true });
  try {
    const handle = await open(temporary, 'wx', mode);
    try {
      // The process's umask may have taken bits away.
      await handle.chmod(mode);
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  const folder = await open(path.dirname(file), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
