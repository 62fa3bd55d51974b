// Where a server gets its exports from: whoever authorizes. The server knows only names that clients send and devices that come back.
import type { BlockDevice } from './block-device.ts';

/** Who is at the other end. */
export interface NbdPeer {
  /** host:port of a TCP client; the path of the socket that a local client came through. */
  readonly remoteAddress: string;
  readonly isUnixSocket: boolean;
  readonly isTls: boolean;
  /** The common name (CN) of the client's certificate, which an authority that the server trusts has signed; undefined without one. */
  readonly certificateSubject: string | undefined;
}

/** What a client may know of an export before it opens it. */
export interface ExportInfo {
  /** At most 4096 bytes of UTF-8; what a client sends to open it. */
  name: string;
  /** At most 4096 bytes of UTF-8, for people; may be empty. */
  description: string;
  sizeBytes: number;
  readOnly: boolean;
  preferredBlockBytes: number;
  multiConn: boolean;
}

/**
 * Names are hostile text of at most 4096 bytes, maybe empty, without NUL. Signals fire when the client has gone or its time for the
 * handshake is over. Anything but ExportRefused thrown is an error of ours: reported to the server's owner, and the client is
 * told no more than that the server could not.
 */
export interface ExportProvider {
  /** What this client may open, as far as it may be told; bounded by the provider. */
  list(peer: NbdPeer, signal: AbortSignal): Promise<ExportInfo[]>;
  /** Describes an export without opening it: no lease is taken. @throws ExportRefused */
  info(name: string, peer: NbdPeer, signal: AbortSignal): Promise<ExportInfo>;
  /** Opens; the server disposes. A device that comes after the signal fired is disposed too. @throws ExportRefused */
  open(name: string, peer: NbdPeer, signal: AbortSignal): Promise<BlockDevice>;
}

/** UNKNOWN: there is no such export, or none that this client may know of. POLICY: not now, or not for you. SHUTDOWN: come back later. */
export type RefusalReply = 'UNKNOWN' | 'POLICY' | 'SHUTDOWN';

/** `message` is shown to the client. */
export class ExportRefused extends Error {
  override readonly name = 'ExportRefused';
  readonly reply: RefusalReply;

  constructor(reply: RefusalReply, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reply = reply;
  }
}
