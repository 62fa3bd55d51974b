// The public API as the npm SDK knows it: an implementation of the wire contract that we did not write. The SDK has no
// descriptors, so what it knows is found out from its codecs.

import { createRequire } from 'node:module';
import type { DescEnum, DescFile, DescMessage, DescService } from '@bufbuild/protobuf';

/** What both ts-proto versions, the SDK's and ours, make for a message. */
export interface Codec {
  encode(message: unknown): { finish(): Uint8Array };
  decode(bytes: Uint8Array): Record<string, unknown>;
  fromPartial(partial: object): Record<string, unknown>;
  toJSON(message: unknown): Record<string, unknown>;
}

/** What the SDK's service definition says of one method. Types are names of codecs, such as `GetImageRequest`. */
export interface SdkMethod {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestType: string;
  readonly responseType: string;
}

const require = createRequire(import.meta.url);

/** Everything that the SDK exports for a proto file, or undefined when it has no such file. */
export function sdkModule(file: DescFile): Record<string, unknown> | undefined {
  const path = `@yandex-cloud/nodejs-sdk/dist/generated/${file.name}`;
  try {
    return require(path) as Record<string, unknown>;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}

/** Name under which ts-proto exports a message or an enum: nested names are joined by underscores. */
export function exportName(desc: DescMessage | DescEnum): string {
  const prefix = desc.file.proto.package === '' ? '' : `${desc.file.proto.package}.`;
  return desc.typeName.slice(prefix.length).replaceAll('.', '_');
}

/** The SDK's codec for a message, or undefined when it does not know the message. */
export function sdkCodec(desc: DescMessage): Codec | undefined {
  return sdkModule(desc.file)?.[exportName(desc)] as Codec | undefined;
}

/** The SDK's values of an enum by name, or undefined when it does not know the enum. */
export function sdkEnum(desc: DescEnum): Map<string, number> | undefined {
  const values = sdkModule(desc.file)?.[exportName(desc)] as Record<string, number | string> | undefined;
  if (values === undefined) return undefined;
  const named = Object.entries(values).filter((entry): entry is [string, number] => typeof entry[1] === 'number');
  return new Map(named.filter(([name]) => name !== 'UNRECOGNIZED'));
}

/** Names of all messages that the SDK has for a proto file, those of map entries left out. */
export function sdkMessageNames(file: DescFile): string[] {
  return Object.entries(sdkModule(file) ?? {})
    .filter(([name, value]) => typeof (value as Partial<Codec> | null)?.decode === 'function' && !name.endsWith('Entry'))
    .map(([name]) => name);
}

/** The SDK's methods of a service by proto name, or undefined when it does not know the service. */
export function sdkMethods(desc: DescService): Map<string, SdkMethod> | undefined {
  const definition = sdkModule(desc.file)?.[`${desc.name}Service`] as Record<string, RawMethod> | undefined;
  if (definition === undefined) return undefined;
  return new Map(
    Object.values(definition).map((raw) => [
      raw.path.slice(raw.path.lastIndexOf('/') + 1),
      {
        path: raw.path,
        requestStream: raw.requestStream,
        responseStream: raw.responseStream,
        requestType: codecNamedIn(raw.requestSerialize),
        responseType: codecNamedIn(raw.responseSerialize),
      },
    ]),
  );
}

interface RawMethod {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: () => void;
  readonly responseSerialize: () => void;
}

// The definition holds closures over codecs and no names of types. Their text, `Buffer.from(exports.Image.encode(…`, does.
function codecNamedIn(serialize: () => void): string {
  const name = /\b\w+\.(\w+)\.encode\(/.exec(serialize.toString())?.[1];
  if (name === undefined) throw new Error(`no codec is named in ${serialize.toString()}`);
  return name;
}
