// Server reflection, grpc.reflection.v1 and v1alpha, over the descriptor set as buf wrote it: options and imports included, byte for
// byte. (The npm package re-encodes files without the options that it does not know, and forgets imports; grpcurl then cannot describe
// anything.) Messages are made from the descriptors too. Protocol: grpc/reflection/v1/reflection.proto.
import { once } from 'node:events';
import { type DescMessage, type DescMethod, type Message, create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { type ServerDuplexStream, status } from '@grpc/grpc-js';
import { DomainError } from '../platform/errors.ts';
import type { Descriptors } from './descriptors.ts';
import type { RateLimits } from './rate-limits.ts';
import { symbolFiles } from './reflection-symbols.ts';
import { newRequestId } from './request-id.ts';
import type { Service } from './service.ts';
import { type Failure, toFailure } from './status.ts';

interface ReflectionRequest extends Message {
  host: string;
  messageRequest:
    | { case: 'fileByFilename' | 'fileContainingSymbol' | 'allExtensionNumbersOfType' | 'listServices'; value: string }
    | { case: 'fileContainingExtension'; value: { containingType: string; extensionNumber: number } }
    | { case: undefined };
}

type Answer = { case: string; value: object };

const versions = ['grpc.reflection.v1', 'grpc.reflection.v1alpha'];
const shownCharacters = 200;

/** Two services that describe themselves and `serviceNames`. */
export function reflectionServices(descriptors: Descriptors, serviceNames: readonly string[], limits?: RateLimits): Service[] {
  const names = versions.map((version) => `${version}.ServerReflection`);
  const answer = answerer(descriptors, [...serviceNames, ...names]);
  return names.map((name) => {
    const method = descriptors.registry.getService(name)?.methods[0];
    if (method === undefined) throw new Error(`the descriptors have no service ${name}`);
    return reflectionService(method, answer, limits);
  });
}

function reflectionService(
  method: DescMethod,
  answer: (request: ReflectionRequest) => Answer,
  limits: RateLimits | undefined,
): Service {
  const { input, output, parent } = method;
  return {
    name: parent.typeName,
    definition: {
      [method.name]: {
        path: `/${parent.typeName}/${method.name}`,
        requestStream: true,
        responseStream: true,
        requestSerialize: (message: Message) => encode(input, message),
        requestDeserialize: (bytes: Buffer) => fromBinary(input, bytes),
        responseSerialize: (message: Message) => encode(output, message),
        responseDeserialize: (bytes: Buffer) => fromBinary(output, bytes),
      },
    },
    handlers: ({ running }) => ({
      [method.name]: (stream: ServerDuplexStream<ReflectionRequest, Message>) => {
        const end = (): void => void stream.end();
        running.stopping.addEventListener('abort', end, { once: true });
        void converse(stream, (request) => {
          // Each of a stream's questions counts as a call.
          limits?.admit(stream.getPeer());
          return create(output, { validHost: request.host, originalRequest: request, messageResponse: answer(request) });
        }).finally(() => running.stopping.removeEventListener('abort', end));
      },
    }),
  };
}

const encode = (desc: DescMessage, message: Message): Buffer => Buffer.from(toBinary(desc, message));

/** One answer per request, in order, no faster than the client reads. */
async function converse(
  stream: ServerDuplexStream<ReflectionRequest, Message>,
  reply: (request: ReflectionRequest) => Message,
): Promise<void> {
  try {
    for await (const request of stream as AsyncIterable<ReflectionRequest>) {
      const message = replyOrFailure(reply, request);
      if (!('code' in message)) {
        if (!stream.write(message)) await once(stream, 'drain');
        continue;
      }
      stream.emit('error', message);
      // The end of this loop destroys the stream: the status goes first.
      await Promise.race([once(stream, 'finish'), once(stream, 'close')]);
      return;
    }
    stream.end();
  } catch {
    // The client went away.
    stream.destroy();
  }
}

/** @throws what is no refusal. */
function replyOrFailure(reply: (request: ReflectionRequest) => Message, request: ReflectionRequest): Message | Failure {
  try {
    return reply(request);
  } catch (error) {
    if (error instanceof DomainError) return toFailure(error, newRequestId());
    throw error;
  }
}

class NotFound extends Error {}

function answerer({ set, registry }: Descriptors, serviceNames: readonly string[]): (request: ReflectionRequest) => Answer {
  const files = new Map(set.file.map((file) => [file.name, file]));
  const symbols = symbolFiles(registry);
  const encoded = new Map<string, Uint8Array>();

  /** The file, then all that it imports: each once, and before its own imports. */
  const withImports = (name: string | undefined, what: string): Answer => {
    if (name === undefined || !files.has(name)) throw new NotFound(`${what} is not known`);
    const importsFirst = new Set<string>();
    const visit = (each: string): void => {
      if (importsFirst.has(each)) return;
      files.get(each)!.dependency.forEach(visit);
      importsFirst.add(each);
    };
    visit(name);
    return { case: 'fileDescriptorResponse', value: { fileDescriptorProto: [...importsFirst].reverse().map(encodedFile) } };
  };

  const encodedFile = (name: string): Uint8Array => {
    const bytes = encoded.get(name) ?? toBinary(FileDescriptorProtoSchema, files.get(name)!);
    encoded.set(name, bytes);
    return bytes;
  };

  const extensionsOf = (typeName: string) =>
    [...registry].filter((desc) => desc.kind === 'extension' && desc.extendee.typeName === typeName);

  const answer = ({ messageRequest: asked }: ReflectionRequest): Answer => {
    switch (asked.case) {
      case 'listServices':
        return { case: 'listServicesResponse', value: { service: serviceNames.map((name) => ({ name })) } };
      case 'fileByFilename':
        return withImports(asked.value, `the file ${shown(asked.value)}`);
      case 'fileContainingSymbol':
        return withImports(symbols.get(asked.value.replace(/^\./, '')), `the symbol ${shown(asked.value)}`);
      case 'fileContainingExtension': {
        const { containingType, extensionNumber } = asked.value;
        const found = extensionsOf(containingType).find((desc) => desc.kind === 'extension' && desc.number === extensionNumber);
        return withImports(
          found?.kind === 'extension' ? `${found.file.name}.proto` : undefined,
          `the extension ${extensionNumber} of ${shown(containingType)}`,
        );
      }
      case 'allExtensionNumbersOfType': {
        if (registry.getMessage(asked.value) === undefined) throw new NotFound(`the type ${shown(asked.value)} is not known`);
        const extensionNumber = extensionsOf(asked.value).flatMap((desc) => (desc.kind === 'extension' ? [desc.number] : []));
        return { case: 'allExtensionNumbersResponse', value: { baseTypeName: asked.value, extensionNumber } };
      }
      case undefined:
        return { case: 'errorResponse', value: { errorCode: status.INVALID_ARGUMENT, errorMessage: 'nothing was asked' } };
    }
  };

  return (request) => {
    try {
      return answer(request);
    } catch (error) {
      if (!(error instanceof NotFound)) throw error;
      return { case: 'errorResponse', value: { errorCode: status.NOT_FOUND, errorMessage: error.message } };
    }
  };
}

const shown = (name: string): string => (name.length > shownCharacters ? `${name.slice(0, shownCharacters)}…` : name);
