// What a writer and a reader of an overlay can meet.
import { DomainError } from '../../platform/errors.ts';
import type { GenerationName } from './generation.ts';

/** The disk of the log takes no more bytes: nothing of this write counts, all that was acknowledged before is there. NBD: ENOSPC. */
export class OverlayFullError extends Error {
  override readonly name = 'OverlayFullError';
}

/**
 * A write or a sync of the log failed in a way after which nobody knows what is on the disk, or the overlay is closed: every later
 * write and flush fails too. What an earlier flush acknowledged is safe. NBD: EIO; end the session.
 */
export class OverlayFailedError extends Error {
  override readonly name = 'OverlayFailedError';
}

/** Bytes of a log are damaged or gone: an error, never data. NBD: EIO. */
export class LogDamagedError extends DomainError {
  readonly generation: GenerationName;

  constructor(generation: GenerationName, reason: string) {
    super(
      'DATA_LOSS',
      `writes of disk ${generation.diskId} cannot be read: generation ${generation.generation} is damaged: ${reason}`,
    );
    this.generation = generation;
  }
}
