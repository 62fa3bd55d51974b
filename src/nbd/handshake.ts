// The handshake: fixed newstyle negotiation (doc/proto.md, "Handshake", "TLS support"), as one conversation from the greeting to the
// opened export. Every length is bounded before it is read, every client has the same few seconds (the signal), and what a client said
// before TLS is forgotten with it.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { BlockDevice } from './block-device.ts';
import { type ExportInfo, type ExportProvider, ExportRefused, type NbdPeer } from './export-provider.ts';
import {
  InvalidOption,
  ProtocolViolation,
  blockSizeReply,
  clientFlagsBytes,
  contextReply,
  decodeClientFlags,
  decodeContextQueries,
  decodeInfoRequest,
  decodeOptionHeader,
  exportInfoReply,
  exportName,
  exportNameReply,
  greeting,
  listedContextId,
  optionError,
  optionHeaderBytes,
  optionReply,
  selectedContextId,
  serverReply,
  textInfoReply,
} from './option-codec.ts';
import { Info, Option, OptionReply, allocationContext, maxStringBytes } from './protocol.ts';
import { type Agreement, transmissionFlags } from './request-rules.ts';
import { SocketReader } from './socket-reader.ts';
import { type NbdTlsCredentials, startTls } from './start-tls.ts';

/** off: there is no TLS. offered: a client may have it. required: nothing is told before TLS (FORCEDTLS). */
export type TlsMode = 'off' | 'offered' | 'required';

export interface HandshakeOptions {
  socket: Socket;
  peer: NbdPeer;
  provider: ExportProvider;
  tls: { mode: TlsMode; credentials: NbdTlsCredentials | undefined };
  /** Fires when the client's time is over, it has gone, or the server closes; the socket is destroyed then. */
  signal: AbortSignal;
  /** What went wrong on our side. */
  onError: (error: unknown) => void;
}

export interface Negotiated {
  /** The same connection, maybe with TLS around it. */
  socket: Duplex;
  peer: NbdPeer;
  exportName: string;
  device: BlockDevice;
  agreed: Agreement;
}

/** Longer data of an option is skipped and refused; so long that it can only be an attack, and the connection ends. */
const maxOptionBytes = 64 * 1024;
const maxSkippedBytes = 1024 * 1024;
const maxOptions = 256;
const tlsHandshakeMs = 10_000;

const replyOfRefusal = {
  UNKNOWN: OptionReply.errorUnknown,
  POLICY: OptionReply.errorPolicy,
  SHUTDOWN: OptionReply.errorShutdown,
} as const;

/** Undefined: the client aborted. @throws ProtocolViolation, Disconnected, or whatever ended the connection. */
export function handshake(options: HandshakeOptions): Promise<Negotiated | undefined> {
  return new Conversation(options).run();
}

class Conversation {
  readonly #provider: ExportProvider;
  readonly #tls: HandshakeOptions['tls'];
  readonly #signal: AbortSignal;
  readonly #onError: (error: unknown) => void;
  readonly #plainSocket: Socket;
  #socket: Duplex;
  #reader: SocketReader;
  #peer: NbdPeer;
  #noZeroes = false;
  #structuredReplies = false;
  /** For which export base:allocation was selected last. */
  #contextOf: string | undefined;

  constructor({ socket, peer, provider, tls, signal, onError }: HandshakeOptions) {
    this.#plainSocket = socket;
    this.#socket = socket;
    this.#reader = new SocketReader(socket);
    this.#peer = peer;
    this.#provider = provider;
    this.#tls = tls;
    this.#signal = signal;
    this.#onError = onError;
  }

  async run(): Promise<Negotiated | undefined> {
    try {
      return await this.#converse();
    } finally {
      this.#reader.detach();
    }
  }

  async #converse(): Promise<Negotiated | undefined> {
    this.#send(greeting());
    const { fixedNewstyle, noZeroes } = decodeClientFlags(await this.#reader.take(clientFlagsBytes));
    this.#noZeroes = noZeroes;
    for (let count = 0; count < maxOptions; count += 1) {
      // Answers are longer than questions: who does not take them is asked nothing more.
      if (this.#socket.writableNeedDrain) await once(this.#socket, 'drain', { signal: this.#signal });
      const { option, lengthBytes } = decodeOptionHeader(await this.#reader.take(optionHeaderBytes));
      if (!fixedNewstyle && option !== Option.exportName) throw new ProtocolViolation('options need fixed newstyle');
      if (option === Option.exportName) return this.#exportName(lengthBytes);
      if (lengthBytes > maxSkippedBytes) throw new ProtocolViolation(`an option of ${lengthBytes} bytes`);
      if (lengthBytes > maxOptionBytes) {
        await this.#reader.skip(lengthBytes);
        this.#error(option, OptionReply.errorTooBig, `an option has at most ${maxOptionBytes} bytes`);
        continue;
      }
      const data = await this.#reader.take(lengthBytes);
      if (option === Option.abort) {
        this.#send(optionReply(option, OptionReply.ack));
        return undefined;
      }
      const opened = await this.#answer(option, data);
      if (opened !== undefined) return opened;
    }
    throw new ProtocolViolation(`more than ${maxOptions} options`);
  }

  /** One option; its failures are the client's to read. */
  async #answer(option: number, data: Buffer): Promise<Negotiated | undefined> {
    try {
      if (option === Option.startTls) await this.#startTls(data);
      else if (this.#mustHaveTls) this.#error(option, OptionReply.errorTlsRequired, 'begin with STARTTLS');
      else return await this.#answerInTheOpen(option, data);
    } catch (error) {
      if (error instanceof InvalidOption) this.#error(option, OptionReply.errorInvalid, error.message);
      else if (error instanceof ExportRefused) this.#error(option, replyOfRefusal[error.reply], error.message);
      else throw error;
    }
    return undefined;
  }

  get #mustHaveTls(): boolean {
    return this.#tls.mode === 'required' && !this.#peer.isTls;
  }

  async #answerInTheOpen(option: number, data: Buffer): Promise<Negotiated | undefined> {
    switch (option) {
      case Option.list:
        return this.#list(data);
      case Option.info:
        return this.#info(data);
      case Option.go:
        return this.#go(data);
      case Option.structuredReply:
        empty(data);
        this.#structuredReplies = true;
        this.#send(optionReply(option, OptionReply.ack));
        return undefined;
      case Option.listMetaContext:
        this.#listContexts(data);
        return undefined;
      case Option.setMetaContext:
        this.#setContexts(data);
        return undefined;
      default:
        this.#error(option, OptionReply.errorUnsupported, `option ${option} is not supported`);
        return undefined;
    }
  }

  /** It cannot be refused in words: the connection ends. */
  async #exportName(lengthBytes: number): Promise<Negotiated> {
    if (this.#mustHaveTls) throw new ProtocolViolation('EXPORT_NAME before TLS');
    if (lengthBytes > maxStringBytes) throw new ProtocolViolation(`an export name of ${lengthBytes} bytes`);
    const name = exportName(await this.#reader.take(lengthBytes));
    return this.#opened(name, (device, flags) => this.#send(exportNameReply(device.sizeBytes, flags, this.#noZeroes)));
  }

  async #startTls(data: Buffer): Promise<void> {
    const option = Option.startTls;
    const { mode, credentials } = this.#tls;
    empty(data);
    if (this.#peer.isTls) throw new InvalidOption('TLS is on already');
    if (mode === 'off' || credentials === undefined) {
      this.#error(option, OptionReply.errorPolicy, 'there is no TLS here');
      return;
    }
    // Whoever sent more before our answer is not a client that waits for TLS, but somebody who wants words smuggled into it.
    if (this.#plainSocket.readableLength > 0) throw new ProtocolViolation('more was sent behind STARTTLS');
    this.#send(optionReply(option, OptionReply.ack));
    this.#reader.detach();
    const { socket, certificateSubject } = await startTls(this.#plainSocket, credentials, tlsHandshakeMs);
    socket.on('error', () => socket.destroy());
    this.#socket = socket;
    this.#reader = new SocketReader(socket);
    this.#peer = { ...this.#peer, isTls: true, certificateSubject };
    this.#structuredReplies = false;
    this.#contextOf = undefined;
  }

  async #list(data: Buffer): Promise<undefined> {
    empty(data);
    const exports = await this.#ask(() => this.#provider.list(this.#peer, this.#signal));
    for (const { name, description } of exports) this.#send(serverReply(Option.list, name, description));
    this.#send(optionReply(Option.list, OptionReply.ack));
  }

  async #info(data: Buffer): Promise<undefined> {
    const { name, infos } = decodeInfoRequest(data);
    const info = await this.#ask(() => this.#provider.info(name, this.#peer, this.#signal));
    this.#describe(Option.info, infos, transmissionFlags(info, this.#structuredReplies), info, info);
  }

  async #go(data: Buffer): Promise<Negotiated> {
    const { name, infos } = decodeInfoRequest(data);
    const described =
      infos.has(Info.name) || infos.has(Info.description)
        ? await this.#ask(() => this.#provider.info(name, this.#peer, this.#signal))
        : undefined;
    return this.#opened(name, (device, flags) => this.#describe(Option.go, infos, flags, device, described));
  }

  /** The answer to INFO and GO. */
  #describe(
    option: number,
    infos: ReadonlySet<number>,
    flags: number,
    { sizeBytes, preferredBlockBytes }: { sizeBytes: number; preferredBlockBytes: number },
    described: ExportInfo | undefined,
  ): void {
    this.#send(exportInfoReply(option, sizeBytes, flags));
    if (infos.has(Info.blockSize)) this.#send(blockSizeReply(option, preferredBlockBytes));
    if (infos.has(Info.name) && described !== undefined) this.#send(textInfoReply(option, Info.name, described.name));
    if (infos.has(Info.description) && described !== undefined && described.description !== '') {
      this.#send(textInfoReply(option, Info.description, described.description));
    }
    this.#send(optionReply(option, OptionReply.ack));
  }

  /** Opens the export and says so; the device belongs to the caller, or is closed again when the client has gone meanwhile. */
  async #opened(name: string, announce: (device: BlockDevice, flags: number) => void): Promise<Negotiated> {
    const device = await this.#ask(() => this.#provider.open(name, this.#peer, this.#signal));
    if (this.#signal.aborted || this.#socket.destroyed) {
      await device[Symbol.asyncDispose]();
      throw new Error('the client left while its export was opened');
    }
    const agreed = { structuredReplies: this.#structuredReplies, blockStatus: this.#contextOf === name };
    announce(device, transmissionFlags(device, agreed.structuredReplies));
    return { socket: this.#socket, peer: this.#peer, exportName: name, device, agreed };
  }

  /** A failure of ours is told to our owner; to the client the export is just not available. */
  async #ask<T>(question: () => Promise<T>): Promise<T> {
    try {
      return await question();
    } catch (error) {
      if (error instanceof ExportRefused) throw error;
      if (!this.#signal.aborted) this.#onError(error);
      throw new ExportRefused('UNKNOWN', 'the server could not open it', { cause: error });
    }
  }

  #listContexts(data: Buffer): void {
    const option = Option.listMetaContext;
    const { queries } = decodeContextQueries(data);
    const wanted = queries.length === 0 || queries.includes('base:') || queries.includes(allocationContext);
    if (wanted) this.#send(contextReply(option, listedContextId));
    this.#send(optionReply(option, OptionReply.ack));
  }

  #setContexts(data: Buffer): void {
    const option = Option.setMetaContext;
    this.#contextOf = undefined;
    if (!this.#structuredReplies) throw new InvalidOption('structured replies come first');
    const { name, queries } = decodeContextQueries(data);
    if (queries.includes(allocationContext)) {
      this.#contextOf = name;
      this.#send(contextReply(option, selectedContextId));
    }
    this.#send(optionReply(option, OptionReply.ack));
  }

  #error(option: number, reply: number, message: string): void {
    this.#send(optionError(option, reply, message));
  }

  #send(bytes: Buffer): void {
    this.#socket.write(bytes);
  }
}

function empty(data: Buffer): void {
  if (data.length > 0) throw new InvalidOption('the option has no data');
}
