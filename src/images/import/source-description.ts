// Where a chunk thread reads an import's bytes: plain data, made by the main thread after the URL policy was asked.
import type { ByteSource } from '../../platform/byte-source.ts';
import { httpRangeSource } from '../../sources/range-reader.ts';
import type { SourceInfo } from '../../sources/probe.ts';
import { fileSource } from '../../sources/spool.ts';

export type SourceDescription =
  /** A web server with ranges: each thread has its own connections to the address that was checked. */
  | { kind: 'http'; info: SourceInfo }
  /** The copy of a source without ranges. */
  | { kind: 'file'; path: string };

export const openSource = (description: SourceDescription): Promise<ByteSource> | ByteSource =>
  description.kind === 'http' ? httpRangeSource(description.info) : fileSource(description.path);
