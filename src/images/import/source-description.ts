// Where a chunk thread reads an import's bytes: plain data, made by the main thread after the URL policy was asked.
import { type ByteSource, memorySource } from '../../platform/byte-source.ts';
import { httpRangeSource } from '../../sources/range-reader.ts';
import type { SourceInfo } from '../../sources/probe.ts';
import { fileSource } from '../../sources/spool.ts';

export type SourceDescription =
  /** A web server with ranges: each thread has its own connections to the address that was checked. */
  | { kind: 'http'; info: SourceInfo }
  /** The copy of a source that cannot be read by ranges. */
  | { kind: 'file'; path: string }
  /** Nothing to read: every chunk comes with its bytes. */
  | { kind: 'bytes' };

export function openSource(description: SourceDescription): Promise<ByteSource> | ByteSource {
  switch (description.kind) {
    case 'http':
      return httpRangeSource(description.info);
    case 'file':
      return fileSource(description.path);
    case 'bytes':
      return memorySource(new Uint8Array(0));
  }
}
