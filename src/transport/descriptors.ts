// The wire contract as data: generated/descriptors.binpb, a FileDescriptorSet with all imports. Validation and reflection read it.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type FileRegistry, createFileRegistry, fromBinary } from '@bufbuild/protobuf';
import { type FileDescriptorSet, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';

export interface Descriptors {
  set: FileDescriptorSet;
  registry: FileRegistry;
}

const file = path.resolve(import.meta.dirname, '../../generated/descriptors.binpb');

/** Takes some 20 ms: once per process. */
export function loadDescriptors(): Descriptors {
  const set = fromBinary(FileDescriptorSetSchema, readFileSync(file));
  return { set, registry: createFileRegistry(set) };
}

/** `/yandex.cloud.compute.v1.ImageService/Get` for every method of every service. */
export function methodPaths({ registry }: Descriptors): string[] {
  return [...registry].flatMap((desc) =>
    desc.kind === 'service' ? desc.methods.map((method) => `/${desc.typeName}/${method.name}`) : [],
  );
}
