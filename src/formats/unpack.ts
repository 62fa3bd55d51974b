// Unpacks one stored unit. Synchronous: it is called in worker threads for every 64 KiB of an image, where the asynchronous calls of
// node:zlib are 2 to 4 times slower. Output is bounded by the target, whatever the input says.
import type { Codec } from './disk-image.ts';
import { createInflater, type Inflate } from './inflater.ts';
import { damagedRemedy, refuse } from './refusal.ts';
import { createZstdDecoder, type UnpackFrame } from './zstd-decoder.ts';
import { readZstdFrame } from './zstd-frame.ts';

/** What RFC 8878 section 3.1.1.1.2 asks every decoder to support; a unit has at most 4 MiB, so no encoder needs more. */
const maxWindowBytes = 8 * 1024 * 1024;

export interface UnpackOptions {
  /** The least that the stream must hold; the rest of the target becomes zeros. Default: target.length. */
  minLength?: number;
  /** Where the unit lies in the file, for the message. */
  at?: number;
}

/**
 * Fills `target`, whose length is the unit's length, from `packed`. What follows the stream is ignored.
 * @throws DomainError INVALID_ARGUMENT when the stream is corrupt, holds more than target.length bytes, or less than minLength.
 */
export function unpack(codec: Codec, packed: Uint8Array, target: Uint8Array, options: UnpackOptions = {}): void {
  const minLength = options.minLength ?? target.length;
  const no = (value: string): Error =>
    refuse({
      format: 'compressed data',
      field: options.at === undefined ? `a ${codec} stream` : `the ${codec} stream at ${options.at}`,
      value,
      bound: `must unpack to ${target.length} bytes`,
      remedy: damagedRemedy,
    });
  const filled = codec === 'zstd' ? unpackZstd(packed, target, no) : inflate(codec, packed, target, no);
  if (filled < minLength) throw no(`${filled} bytes long`);
  if (filled < target.length) target.fill(0, filled);
}

type Refuse = (value: string) => Error;

const inflaters: { [codec in 'deflate-raw' | 'zlib']?: Inflate } = {};

function inflate(codec: 'deflate-raw' | 'zlib', packed: Uint8Array, target: Uint8Array, no: Refuse): number {
  inflaters[codec] ??= createInflater(codec);
  const run = inflaters[codec];
  return named(target.length, no, () => run(packed, target));
}

let unpackFrame: UnpackFrame | undefined;

/** Of one unit: encoders write one. Empty ones would let a small file keep a thread busy for minutes. */
const maxFrames = 64;

/** Frames follow each other until the unit is full (qemu/block/qcow2-threads.c accepts that too); skippable ones hold nothing. */
function unpackZstd(packed: Uint8Array, target: Uint8Array, no: Refuse): number {
  let filled = 0;
  let at = 0;
  let frames = 0;
  while (filled < target.length) {
    const frame = readZstdFrame(packed, at);
    if (typeof frame === 'string') throw no(`corrupt (${frame})`);
    const room = target.length - filled;
    if (frame.contentBytes !== undefined && frame.contentBytes > room) throw no(`${filled + frame.contentBytes} bytes long`);
    if (frame.windowBytes > maxWindowBytes)
      throw no(`in need of a window of ${frame.windowBytes} bytes, of at most ${maxWindowBytes}`);
    const bytes = packed.subarray(at, at + frame.length);
    if (frame.kind === 'data') {
      frames += 1;
      if (frames > maxFrames) throw no(`in more than ${maxFrames} zstd frames`);
      unpackFrame ??= createZstdDecoder();
      const run = unpackFrame;
      filled += named(target.length, no, () => run(bytes, frame.contentBytes, target.subarray(filled)));
    }
    at += frame.length;
  }
  return filled;
}

/** What zlib throws, told as a refusal. */
function named<T>(unitLength: number, no: Refuse, run: () => T): T {
  try {
    return run();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (code === 'ERR_BUFFER_TOO_LARGE') throw no(`longer than ${unitLength} bytes`);
    if (code.startsWith('Z_') || code.startsWith('ZSTD_')) throw no(`corrupt (${code})`);
    throw error;
  }
}
