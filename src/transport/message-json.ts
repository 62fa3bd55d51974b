// Messages of the methods as proto JSON, by their descriptors: for the audit, which tells what was asked whatever the method.
import { type DescMessage, fromBinary, toJson } from '@bufbuild/protobuf';
import type { MethodJson } from '../audit/audit.ts';
import type { JsonObject } from '../audit/masking.ts';
import type { Descriptors } from './descriptors.ts';

/** For full names of methods without the first slash. @throws Error for a method that the descriptors lack. */
export const methodJson =
  ({ registry }: Descriptors) =>
  (name: string): MethodJson => {
    const [service = '', method = ''] = name.split('/');
    const found = registry.getService(service)?.methods.find((each) => each.name === method);
    if (found === undefined) throw new Error(`the descriptors have no method ${name}`);
    const jsonOf = (desc: DescMessage) => (bytes: Uint8Array) =>
      toJson(desc, fromBinary(desc, bytes, { readUnknownFields: false }), { registry }) as JsonObject;
    return {
      request: jsonOf(found.input),
      response: jsonOf(found.output),
      answersOperation: found.output.typeName === 'yandex.cloud.operation.Operation',
    };
  };
