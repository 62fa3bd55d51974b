import { randomFrom, testSeed } from '../support/sample.ts';
import { cached } from '../../src/storage/decorators/cached.ts';
import { limited } from '../../src/storage/decorators/limited.ts';
import { retrying } from '../../src/storage/decorators/retrying.ts';
import { flaky, localPlace, memoryPlace } from '../unit/storage/support/places.ts';
import { describeBlobStore, describeKilledWriter } from './blob-store.contract.ts';

const limits = { writes: 3, reads: 5 };
const retries = { attempts: 12, firstPauseMs: 1, maxPauseMs: 2 };

describeBlobStore('memory', () => memoryPlace());
describeBlobStore('local folder', () => localPlace());
describeKilledWriter('local folder', () => localPlace());
describeBlobStore('limited memory', () => memoryPlace((store) => limited(store, limits)));
describeBlobStore('cached local folder', () => localPlace((store) => cached(store, 1024 * 1024)));
describeBlobStore('cached, retrying, limited local folder', () =>
  localPlace((store) => cached(retrying(limited(store, limits), retries), 1024 * 1024)),
);
describeBlobStore(`retrying memory that fails now and then (OBRAZ_TEST_SEED=${testSeed})`, () =>
  memoryPlace((store) => retrying(flaky(store, 0.2, randomFrom(testSeed)), retries)),
);
