// Messages inside operations: google.protobuf.Any, as clients resolve it (only the part after the last `/` counts for them).

/** A message with the URL of its type; the shape of google.protobuf.Any. */
export interface PackedMessage {
  /** `type.googleapis.com/<full name>`. */
  typeUrl: string;
  value: Uint8Array;
}

/** What ts-proto makes of a message. */
export interface MessageCodec<Message> {
  readonly $type: string;
  encode(message: Message): { finish(): Uint8Array };
}

/** `pack(CreateImageMetadata, { imageId })`. */
export const pack = <Message>(codec: MessageCodec<Message>, message: Message): PackedMessage => ({
  typeUrl: `type.googleapis.com/${codec.$type}`,
  value: codec.encode(message).finish(),
});

/** google.protobuf.Empty: the response of an operation that leaves nothing, such as a delete. */
export const packedEmpty: PackedMessage = { typeUrl: 'type.googleapis.com/google.protobuf.Empty', value: new Uint8Array(0) };
