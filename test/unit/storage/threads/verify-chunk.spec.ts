// Verifying in threads: what they find is told as the main thread's own reading tells it.
import { readFile, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect } from 'chai';
import type { ChunkAddress } from '../../../../src/storage/address.ts';
import { ChunkCorruptError, type CorruptFinding } from '../../../../src/storage/damage.ts';
import { openStorage } from '../../../../src/storage/open.ts';
import { chunkKey, corruptMarkKey } from '../../../../src/storage/paths.ts';
import { errorOf } from '../../../contract/blob-store.contract.ts';
import { chunk } from '../support/guest-data.ts';
import { temporaryFolder } from '../support/places.ts';

for (const threads of [0, 2])
  describe(`verifying chunks with ${threads} threads`, () => {
    it('answers their sizes, and finds what is damaged or missing', async () => {
      await using folder = await temporaryFolder();
      const findings: CorruptFinding[] = [];
      const onCorrupt = (finding: CorruptFinding): void => void findings.push(finding);
      await using storage = await openStorage({ directory: folder.path, threads, onCorrupt });
      const stored = async (seed: number): Promise<ChunkAddress> => (await storage.chunks.store(chunk([1, 2], seed)))!;
      const [whole, damaged, missing] = [await stored(1), await stored(2), await stored(3)];
      const fileOf = (key: string): string => path.join(folder.path, key);
      const bytes = await readFile(fileOf(chunkKey(damaged)));
      expect(await storage.verifyChunk(damaged)).to.equal(bytes.length);
      bytes[9000]! ^= 1;
      await writeFile(fileOf(chunkKey(damaged)), bytes);
      await unlink(fileOf(chunkKey(missing)));

      expect(await storage.verifyChunk(whole)).to.equal(bytes.length);
      const error = await errorOf(storage.verifyChunk(damaged));
      expect(error).to.be.instanceOf(ChunkCorruptError).with.property('finding').that.includes({ address: damaged });
      expect(await readFile(fileOf(corruptMarkKey(chunkKey(damaged))), 'utf8')).to.include('reason');
      expect(await storage.verifyChunk(missing)).to.equal(undefined);
      expect(await errorOf(storage.verifyChunk(missing, undefined, true))).to.be.instanceOf(ChunkCorruptError);
      expect(findings.map(({ address }) => address)).to.deep.equal([damaged, missing]);
      const reason = new Error('enough');
      expect(await errorOf(storage.verifyChunk(whole, AbortSignal.abort(reason)))).to.equal(reason);
    });
  });
