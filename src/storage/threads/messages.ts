// What the main thread and the threads of a store say to each other.
import type { PostedError } from '../../platform/posted-error.ts';
import type { Admitted } from '../admission.ts';
import type { CorruptFinding } from '../damage.ts';
import type { ChunkPatch, FoldFile } from '../overlay/fold-chunk.ts';

export type ToThread =
  | { kind: 'slab'; slab: number; memory: SharedArrayBuffer }
  /** `slots`: slab and offset of each block, one after another. `checks`: as ChunkStore.readBlocks, of these blocks. */
  | { kind: 'read'; taskId: number; address: string; first: number; slots: readonly number[]; checks: readonly number[] }
  /** Logs that chunks are folded from, by their place in patches. */
  | { kind: 'openFold'; foldId: number; files: readonly FoldFile[] }
  | { kind: 'closeFold'; foldId: number }
  | { kind: 'fold'; taskId: number; foldId: number; base: string | undefined; patch: ChunkPatch }
  | { kind: 'cancel'; taskId: number }
  | { kind: 'admitted'; askId: number; admitted: readonly Admitted[] }
  | { kind: 'refused'; askId: number; error: PostedError };

export type FromThread =
  /** Answers of one moment together: waking the other thread costs as much as reading a block. */
  | { kind: 'several'; messages: readonly FromThread[] }
  | { kind: 'read'; taskId: number; checks: readonly number[] }
  | { kind: 'folded'; taskId: number; address: string | undefined }
  | { kind: 'failed'; taskId: number; error: PostedError }
  | { kind: 'admit'; askId: number; foldId: number; keys: readonly string[] }
  | { kind: 'corrupt'; finding: CorruptFinding };
