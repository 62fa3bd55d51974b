// A generation: one append-only log file of writes above a disk's base (log-format.ts), and its index in memory. It is written by one
// WritableOverlay, sealed at a length, and never read beyond it.

export interface GenerationName {
  /** At most 64 characters of ASCII. */
  diskId: string;
  /** Ascending: later generations lie above earlier ones. */
  generation: number;
}

/** A log that can be read. Disposing closes the file; whoever has it in an overlay leaves that to the overlay. */
export interface Generation extends AsyncDisposable {
  readonly name: GenerationName;
  readonly file: string;
  /** The log's length, bytes: of a sealed generation the one that was sealed, of an open one what was appended so far. */
  readonly lengthBytes: number;
  /** Memory that the index takes, bytes, about. */
  readonly indexBytes: number;
}

/** A log that is appended to, by the WritableOverlay that it is given to. */
export interface OpenGeneration extends Generation {
  /** Bytes of the log that were synced. */
  readonly durableBytes: number;
}

/**
 * Makes the log's file, mode 0600; it and its name are durable when it resolves, so make it before the row that names it. `sizeBytes` is
 * the disk's size, for the record.
 * @throws EEXIST when there is a file; OverlayFullError when the disk is full.
 */
export function createGeneration(_file: string, _name: GenerationName, _sizeBytes: number): Promise<OpenGeneration> {
  return Promise.reject(new Error('not built yet'));
}

/**
 * Opens a log that was sealed at `lengthBytes`; reads its headers. Payload is verified when it is read.
 * @throws DomainError DATA_LOSS when the file is missing, short, of another disk or generation, or its headers are damaged.
 */
export function openSealedGeneration(
  _file: string,
  _name: GenerationName,
  _lengthBytes: number,
  _signal?: AbortSignal,
): Promise<Generation> {
  return Promise.reject(new Error('not built yet'));
}

/**
 * Opens the log of a writer that died, or was fenced off and may come back: reads all of it, finds its end (the first record that is
 * torn or does not follow), syncs it. Its `lengthBytes` is what to seal it at; the file is not changed, and what the old writer still
 * appends lies beyond.
 * @throws DomainError DATA_LOSS when the file is missing or of another disk, or when bytes are damaged that were synced before (a
 *   later record proves it).
 */
export function recoverGeneration(_file: string, _name: GenerationName, _signal?: AbortSignal): Promise<Generation> {
  return Promise.reject(new Error('not built yet'));
}
