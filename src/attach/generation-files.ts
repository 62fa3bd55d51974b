// The files of this machine's generations: `<disk>.<generation>.<writer>.log` in one folder per installation, so that a data folder that is
// started with another database by mistake loses nothing. A name is never used twice: every session has an id of its own.
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { syncFolder } from '../platform/durable-file.ts';
import type { GenerationRow } from './generation-queries.ts';

export type GenerationKey = Pick<GenerationRow, 'diskId' | 'generation' | 'writerId'>;

export interface GenerationFile extends GenerationKey {
  file: string;
  /** Milliseconds since it was written to. */
  ageMs: number;
}

const pattern = /^([a-z0-9]{1,50})\.([1-9]\d{0,9})\.([0-9a-f-]{36})\.log$/;

export class GenerationFiles {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** @param installation names the database that the generations belong to. */
  static async open(dataFolder: string, installation: string): Promise<GenerationFiles> {
    const parent = path.join(dataFolder, 'generations');
    const folder = path.join(parent, installation);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const each of [parent, dataFolder]) await syncFolder(each);
    return new GenerationFiles(folder);
  }

  of({ diskId, generation, writerId }: GenerationKey): string {
    return path.join(this.#folder, `${diskId}.${generation}.${writerId}.log`);
  }

  async list(): Promise<GenerationFile[]> {
    const found: GenerationFile[] = [];
    for (const name of await readdir(this.#folder)) {
      const match = pattern.exec(name);
      if (match === null) continue;
      const [, diskId, generation, writerId] = match as unknown as [string, string, string, string];
      const file = path.join(this.#folder, name);
      const stats = await stat(file).catch(() => undefined);
      if (stats !== undefined)
        found.push({ diskId, generation: Number(generation), writerId, file, ageMs: Date.now() - stats.mtimeMs });
    }
    return found;
  }

  /** Those that are there; who reads one goes on reading it. */
  async remove(keys: readonly GenerationKey[]): Promise<void> {
    for (const key of keys) await rm(this.of(key), { force: true });
  }
}
