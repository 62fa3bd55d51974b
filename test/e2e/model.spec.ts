// Random lives of disks, snapshots and images, against a model that is nothing but bytes in memory (test/support/model): whatever is done,
// and whenever the service is killed, every byte that can be read is what was written, nothing that was flushed is lost, and in the end the
// store holds what is reachable and nothing else. OBRAZ_TEST_SEED repeats what is chosen; what the service does meanwhile has its own time.
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { isLongRun, testSeed } from '../support/sample.ts';
import { Model } from '../support/model/model.ts';
import { Random } from '../support/model/random-changes.ts';
import { ModelService } from '../support/model/service.ts';
import { reachableKeys, storedKeys } from '../support/model/stored-keys.ts';

const sequences = isLongRun ? 4 : 1;
const steps = isLongRun ? 120 : 24;

describe(`random lives of disks (OBRAZ_TEST_SEED=${testSeed})`, function () {
  this.timeout(15 * 60_000);

  for (let index = 0; index < sequences; index += 1) {
    const seed = testSeed + index;
    it(`read as what was written, through ${steps} steps of seed ${seed}`, async () => {
      await using service = await ModelService.start();
      const model = new Model(service, new Random(seed));
      try {
        for (let step = 0; step < steps; step += 1) {
          await model.step();
          if (step === steps / 2) await model.kill();
        }
        await model.finish();
        await expectOnlyReachable(service);
        await model.clear();
        await expectOnlyReachable(service);
        expect(await storedKeys(service.blobDirectory)).to.deep.equal([]);
        if (isLongRun) await expectNoFiles(service);
      } catch (error) {
        const story = `seed ${seed}:\n  ${model.trace.join('\n  ')}\n\n${service.obraz.output.slice(-20_000)}`;
        throw new Error(`${(error as Error).message}\n${story}`, { cause: error });
      } finally {
        model.abandon();
      }
    });
  }
});

/** When everything has settled and garbage was collected, the store holds what rows reach. */
async function expectOnlyReachable(service: ModelService): Promise<void> {
  const open = 'select 1 from disk_generations union all select 1 from jobs';
  await eventually('everything is committed', async () => (await service.rows(open)).length === 0);
  await eventually('garbage collection has nothing left to do', async () => {
    const run = await service.collectGarbage();
    expect(Number(run.missingObjects), 'objects that are needed and missing').to.equal(0);
    return run.condemnedObjects === 0n && run.pendingObjects === 0n;
  });
  const reachable = await reachableKeys(service.database.url, service.blobDirectory);
  expect(await storedKeys(service.blobDirectory)).to.deep.equal(reachable);
}

async function expectNoFiles(service: ModelService): Promise<void> {
  await service.ageGenerationFiles();
  await service.stop();
  await service.start();
  await eventually('no generation has a file', async () => (await service.generationFiles()).length === 0);
}

async function eventually(what: string, condition: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 120_000; !(await condition()); await sleep(50)) {
    if (Date.now() > deadline) throw new Error(`not within two minutes: ${what}`);
  }
}
