// What the import's main thread and its chunk threads say to each other. All of it is plain data.
import type { PostedError } from '../../platform/posted-error.ts';
import type { Admitted } from '../../storage/admission.ts';
import type { SourceDescription } from './source-description.ts';
import type { ChunkPlan } from './plan.ts';

export type ToThread =
  /** Every chunk of `sourceId` reads from this source, until it is closed. */
  | { kind: 'open'; sourceId: number; source: SourceDescription }
  | { kind: 'close'; sourceId: number }
  | { kind: 'store'; taskId: number; sourceId: number; plan: ChunkPlan }
  /** The same for a chunk whose bytes are there, in shared memory that is the sender's again when it is stored. */
  | { kind: 'storeBytes'; taskId: number; sourceId: number; bytes: Uint8Array }
  | { kind: 'cancel'; taskId: number }
  /** The answer to 'admit'. */
  | { kind: 'admitted'; askId: number; admitted: readonly Admitted[] }
  | { kind: 'refused'; askId: number; error: PostedError };

export type FromThread =
  /** The chunk is durable. `address` is undefined when it holds only zeros. */
  | { kind: 'stored'; taskId: number; address: string | undefined; bytesFetched: number }
  | { kind: 'failed'; taskId: number; error: PostedError }
  /** Before a put of these objects for the import that `sourceId` belongs to: only the main thread has the database. */
  | { kind: 'admit'; askId: number; sourceId: number; keys: readonly string[] };
