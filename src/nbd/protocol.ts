// The numbers of the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md, "Values"), and its two bounds on sizes. Everything on the wire
// is big-endian. No code here: option-codec.ts speaks the handshake, request-codec.ts the transmission.

/** "NBDMAGIC" and "IHAVEOPT" in ASCII; what opens the conversation and every option. */
export const greetingMagic = 0x4e42_444d_4147_4943n;
export const optionMagic = 0x4948_4156_454f_5054n;
export const optionReplyMagic = 0x0003_e889_0455_65a9n;
export const requestMagic = 0x2560_9513;
export const simpleReplyMagic = 0x6744_6698;
export const chunkMagic = 0x668e_33ef;

/** Both directions: the server offers, the client takes. */
export const HandshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const TransmissionFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendFastZero: 1 << 11,
} as const;

export const Option = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

export const OptionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errorUnsupported: 0x8000_0001,
  errorPolicy: 0x8000_0002,
  errorInvalid: 0x8000_0003,
  errorPlatform: 0x8000_0004,
  errorTlsRequired: 0x8000_0005,
  errorUnknown: 0x8000_0006,
  errorShutdown: 0x8000_0007,
  errorTooBig: 0x8000_0009,
} as const;

export const Info = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const Command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const CommandFlag = { fua: 1 << 0, noHole: 1 << 1, df: 1 << 2, reqOne: 1 << 3, fastZero: 1 << 4 } as const;

export const ChunkFlag = { done: 1 } as const;
export const ChunkType = { none: 0, offsetData: 1, offsetHole: 2, blockStatus: 5, error: 0x8001 } as const;

/** Flags of a run in the context base:allocation. */
export const AllocationFlag = { hole: 1, zero: 2 } as const;
export const allocationContext = 'base:allocation';
/** The id that we give it; a client must not care. */
export const allocationContextId = 1;

export const ErrorNumber = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

/** Names, descriptions and messages ("Strings"). */
export const maxStringBytes = 4096;
/** Bytes of one read or write: the size that every server should take, announced in NBD_INFO_BLOCK_SIZE. */
export const maxPayloadBytes = 32 * 1024 * 1024;
