// Which requests are refused before the device hears of them (doc/proto.md, "Request types", "Error values"). Pure.
import type { BlockDeviceErrorCode } from './block-device.ts';
import { Command, CommandFlag, TransmissionFlag, maxPayloadBytes } from './protocol.ts';
import type { RequestHeader } from './request-codec.ts';

/** What was agreed on in the handshake. */
export interface Agreement {
  readonly structuredReplies: boolean;
  /** base:allocation was selected, for this export. */
  readonly blockStatus: boolean;
}

export interface DeviceFacts {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly multiConn: boolean;
}

export function transmissionFlags({ readOnly, multiConn }: DeviceFacts, structuredReplies: boolean): number {
  const { hasFlags, sendFlush, sendFua, sendDf, canMultiConn, sendTrim, sendWriteZeroes, sendFastZero } = TransmissionFlag;
  return (
    hasFlags |
    sendFlush |
    sendFua |
    (structuredReplies ? sendDf : 0) |
    (multiConn ? canMultiConn : 0) |
    (readOnly ? TransmissionFlag.readOnly : sendTrim | sendWriteZeroes | sendFastZero)
  );
}

export interface Refusal {
  code: BlockDeviceErrorCode;
  message: string;
}

const { fua, noHole, df, reqOne, fastZero } = CommandFlag;
/** By command. FUA goes with all: clients are known to set it where it means nothing. */
const knownFlags: readonly number[] = [fua | df, fua, fua, fua, fua, fua, fua | noHole | fastZero, fua | reqOne];

/** Undefined: it may go on. */
export function refusal(request: RequestHeader, device: DeviceFacts, agreed: Agreement): Refusal | undefined {
  const { command, flags, offset, length } = request;
  const known = knownFlags[command];
  if (known === undefined || command === Command.cache) return { code: 'EINVAL', message: `command ${command} is not known` };
  if ((flags & ~known) !== 0 || ((flags & df) !== 0 && !agreed.structuredReplies)) {
    return { code: 'EINVAL', message: `flags 0x${flags.toString(16)} do not go with command ${command}` };
  }
  if (command === Command.flush) {
    return offset === 0 && length === 0 ? undefined : { code: 'EINVAL', message: 'a flush has no offset and no length' };
  }
  const writes = command === Command.write || command === Command.trim || command === Command.writeZeroes;
  if (writes && device.readOnly) return { code: 'EPERM', message: 'the export is read-only' };
  if (length > maxPayloadBytes && (command === Command.read || command === Command.write)) {
    return {
      code: command === Command.read ? 'EOVERFLOW' : 'EINVAL',
      message: `${length} bytes are more than the ${maxPayloadBytes} that one request may have`,
    };
  }
  if (offset + length > device.sizeBytes) {
    return {
      code: command === Command.write || command === Command.writeZeroes ? 'ENOSPC' : 'EINVAL',
      message: `${length} bytes at ${offset} are outside of the export's ${device.sizeBytes}`,
    };
  }
  if (command === Command.blockStatus) {
    if (!agreed.blockStatus) return { code: 'EINVAL', message: 'no metadata context was selected for this export' };
    if (length === 0) return { code: 'EINVAL', message: 'a block status of nothing' };
  }
  return undefined;
}
