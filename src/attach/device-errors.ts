// What goes wrong beneath a device, as an NBD client hears it.
import { BlockDeviceError } from '../nbd/block-device.ts';
import { DomainError, TransientError } from '../platform/errors.ts';
import { OverlayFailedError, OverlayFullError } from '../storage/overlay/errors.ts';

/** Anything that is not known here is our fault, and stays as it is. */
export function asDeviceError(error: unknown): unknown {
  if (error instanceof OverlayFullError) return new BlockDeviceError('ENOSPC', error.message, { cause: error });
  const isKnown = error instanceof OverlayFailedError || error instanceof TransientError || error instanceof DomainError;
  return isKnown ? new BlockDeviceError('EIO', error.message, { cause: error }) : error;
}
