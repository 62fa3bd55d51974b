// What a writer of an overlay can meet. Damaged data is a DomainError DATA_LOSS, as everywhere in storage.

/** The disk of the log takes no more bytes: nothing of this write is there, all that was acknowledged before is. NBD: ENOSPC. */
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
