// The wire contract, held against what others say of it: the public API as data where that is there, and the npm SDK, whose
// codecs were made by other people from the public protos.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createFileRegistry, equals, fromBinary, ScalarType, toBinary } from '@bufbuild/protobuf';
import type { DescEnum, DescField, DescFile, DescMessage } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { expect } from 'chai';
import * as fc from 'fast-check';
import { messageArbitrary, singleFieldArbitrary } from '../support/message-arbitrary.ts';
import { exportName, sdkCodec, sdkEnum, sdkMessageNames, sdkMethods, sdkModule } from '../support/public-sdk.ts';
import type { Codec } from '../support/public-sdk.ts';

const root = new URL('../../', import.meta.url);
const registry = createFileRegistry(
  fromBinary(FileDescriptorSetSchema, readFileSync(new URL('generated/descriptors.binpb', root))),
);
const files = [...registry.files].filter((file) => file.name.startsWith('yandex/') || file.name.startsWith('obraz/'));
const publicFiles = files.filter((file) => file.name.startsWith('yandex/'));

// Parts of the public API that are younger than the SDK. Anything else that the SDK does not know is a fault of ours.
const NEWER_THAN_SDK = new Set([
  'yandex.cloud.compute.v1.Image.size',
  'yandex.cloud.iam.v1.CreateServiceAccountRequest.expires_at',
  'yandex.cloud.iam.v1.ReactivateServiceAccountMetadata',
  'yandex.cloud.iam.v1.ReactivateServiceAccountRequest',
  'yandex.cloud.iam.v1.ReactivateServiceAccountResponse',
  'yandex.cloud.iam.v1.ServiceAccount.Status',
  'yandex.cloud.iam.v1.ServiceAccount.expires_at',
  'yandex.cloud.iam.v1.ServiceAccount.status',
  'yandex.cloud.iam.v1.ServiceAccountService.Reactivate',
  'yandex.cloud.iam.v1.ServiceAccountService.Suspend',
  'yandex.cloud.iam.v1.SuspendServiceAccountMetadata',
  'yandex.cloud.iam.v1.SuspendServiceAccountRequest',
  'yandex.cloud.iam.v1.SuspendServiceAccountResponse',
  'yandex.cloud.iam.v1.UpdateServiceAccountRequest.expires_at',
]);

const seed = Math.floor(Math.random() * 2 ** 31);
const sample = { seed, numRuns: 40 };

describe(`the wire contract (seed ${seed})`, () => {
  it('equals the public API as data, both ways', function () {
    const check = new URL('../shared/contract/check', root);
    if (!existsSync(check)) {
      console.warn('SKIPPED: ../shared/contract/check is not there, so the protos are compared with the npm SDK alone');
      this.skip();
    }
    const run = spawnSync(fileURLToPath(check), { cwd: root, encoding: 'utf8', timeout: 50_000 });
    if (run.status === 127) {
      console.warn('SKIPPED: ../shared/contract/check needs python3');
      this.skip();
    }
    expect(run.stdout + run.stderr).to.match(/\b[1-9]\d* facts and [1-9]\d* value rules compared, 0 faults\n$/);
    expect(run.status).to.equal(0);
  });

  for (const file of files) {
    describe(`in ${file.name}.proto`, () => {
      for (const message of messagesOf(file)) {
        it(`${message.name} passes through the generated codec unchanged`, async () => {
          const generated = (await import(new URL(`generated/${file.name}.ts`, root).href)) as Record<string, Codec>;
          const codec = generated[exportName(message)];
          expect(codec, 'generated codec').to.not.equal(undefined);
          fc.assert(fc.property(messageArbitrary(message), survives(message, codec!)), sample);
        });
      }
    });
  }
});

describe(`the wire contract in the npm SDK's eyes (seed ${seed})`, () => {
  const unknown = new Set<string>();

  after(() => {
    console.info(
      '      Not compared with the npm SDK, which does not carry them: HTTP routes, operation annotations, value rules.',
    );
    console.info(`      Not compared because they are newer than the npm SDK: ${[...unknown].sort().join(', ')}.`);
  });

  it('has the same files', () => {
    expect(publicFiles.filter((file) => sdkModule(file) === undefined)).to.deep.equal([]);
    expect(publicFiles).to.have.length.greaterThan(20);
  });

  for (const file of publicFiles) {
    describe(`in ${file.name}.proto`, () => {
      it('has the same messages and enums', () => {
        const ours = messagesOf(file).filter((message) => known(message.typeName, sdkCodec(message)));
        expect(ours.map(exportName).sort()).to.deep.equal(sdkMessageNames(file).sort());
        for (const desc of enumsOf(file).filter((each) => known(each.typeName, sdkEnum(each)))) {
          expect(new Map(desc.values.map((value) => [value.name, value.number])), desc.typeName).to.deep.equal(sdkEnum(desc));
        }
      });

      for (const service of file.services) {
        it(`${service.name} has the same paths, types and streams`, () => {
          const theirs = sdkMethods(service);
          expect(theirs, 'service').to.not.equal(undefined);
          const ours = service.methods.filter((method) => known(`${service.typeName}.${method.name}`, theirs!.get(method.name)));
          const described = ours.map((method) => ({
            path: `/${service.typeName}/${method.name}`,
            requestStream: method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming',
            responseStream: method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming',
            requestType: exportName(method.input),
            responseType: exportName(method.output),
          }));
          expect(described).to.have.deep.members([...theirs!.values()]);
        });
      }

      for (const message of messagesOf(file).filter((each) => sdkCodec(each) !== undefined)) {
        const codec = sdkCodec(message)!;

        it(`${message.name} has the same fields under the same numbers`, () => {
          const ours = message.fields.filter((field) => sdkKnows(message, field));
          expect(ours.map((field) => field.jsonName).sort()).to.deep.equal(Object.keys(codec.fromPartial({})).sort());
          for (const field of ours) {
            fc.assert(fc.property(singleFieldArbitrary(message, field, sdkKnows), setsOnly(message, field, codec)), {
              seed,
              numRuns: 5,
            });
          }
        });

        it(`${message.name} passes through the SDK's codec unchanged`, () => {
          fc.assert(fc.property(messageArbitrary(message, sdkKnows), survives(message, codec)), sample);
        });
      }
    });
  }

  // Whether the SDK has its side of a thing; notes the thing when it is newer, and fails when it is not known to be.
  function known(name: string, theirs: unknown): boolean {
    if (theirs !== undefined) return true;
    expect(NEWER_THAN_SDK, `${name} is in our protos and not in the SDK`).to.include(name);
    unknown.add(name);
    return false;
  }

  function sdkKnows(message: DescMessage, field: DescField): boolean {
    if (!message.typeName.startsWith('yandex.')) return true;
    const fields = sdkCodec(message)?.fromPartial({});
    return known(`${message.typeName}.${field.name}`, fields !== undefined && field.jsonName in fields ? true : undefined);
  }
});

/** A property: decoding a message's bytes with the codec and encoding them again gives an equal message. */
function survives(desc: DescMessage, codec: Codec): (message: ReturnType<typeof fromBinary>) => void {
  return (message) => {
    const echo = fromBinary(desc, codec.encode(codec.decode(toBinary(desc, message))).finish());
    expect(equals(desc, message, echo), `${desc.typeName} comes back as ${JSON.stringify(echo, printable)}`).to.equal(true);
  };
}

/** A property: the codec finds the one field that is set under its name, as a value of its kind, and nothing else. */
function setsOnly(desc: DescMessage, field: DescField, codec: Codec): (message: ReturnType<typeof fromBinary>) => void {
  const unset = codec.decode(new Uint8Array());
  return (message) => {
    const decoded = codec.decode(toBinary(desc, message));
    const changed = Object.keys(decoded).filter(
      (key) => JSON.stringify(decoded[key], printable) !== JSON.stringify(unset[key], printable),
    );
    expect(changed, `${desc.typeName}.${field.name}`).to.deep.equal([field.jsonName]);
    const value = decoded[field.jsonName];
    expect(Array.isArray(value), `${desc.typeName}.${field.name} is a list`).to.equal(field.fieldKind === 'list');
    if (field.fieldKind === 'scalar') {
      expect(kindOf(value), `${desc.typeName}.${field.name}`).to.equal(kindOf(plainValue(message, field)));
      if (typeof value === 'number') expectNumber(desc, field, codec, codec.toJSON(decoded)[field.jsonName]);
    }
    if (field.fieldKind === 'enum') {
      const name = field.enum.value[plainValue(message, field) as number]?.name;
      if (name !== undefined) expect(codec.toJSON(decoded)[field.jsonName], `${desc.typeName}.${field.name}`).to.equal(name);
    }
  };
}

// A 32-bit number and an enum decode small 64-bit numbers as well as a 64-bit one does. What tells them apart is that they cut
// off the upper half of a large one, and that an enum has names in JSON.
function expectNumber(desc: DescMessage, field: DescField & { fieldKind: 'scalar' }, codec: Codec, json: unknown): void {
  expect(json, `${desc.typeName}.${field.name} is no enum`).to.be.a('number');
  if (field.scalar === ScalarType.DOUBLE || field.scalar === ScalarType.FLOAT) return;
  const wide = new BinaryWriter().tag(field.number, WireType.Varint).uint64(2n ** 40n);
  const expected = field.scalar === ScalarType.INT64 || field.scalar === ScalarType.UINT64 ? 2 ** 40 : 0;
  expect(codec.decode(wide.finish())[field.jsonName], `${desc.typeName}.${field.name} has the right width`).to.equal(expected);
}

function plainValue(message: object, field: DescField): unknown {
  const properties = message as Record<string, { value?: unknown } | undefined>;
  return field.oneof === undefined ? properties[field.localName] : properties[field.oneof.localName]?.value;
}

function kindOf(value: unknown): string {
  if (typeof value === 'bigint') return 'number'; // the SDK keeps 64-bit numbers as Number
  return value instanceof Uint8Array ? 'bytes' : typeof value;
}

function printable(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}

function messagesOf(parent: DescFile | DescMessage): DescMessage[] {
  const own = parent.kind === 'file' ? parent.messages : parent.nestedMessages;
  return own.concat(own.flatMap(messagesOf));
}

function enumsOf(file: DescFile): DescEnum[] {
  return [...file.enums, ...messagesOf(file).flatMap((message) => message.nestedEnums)];
}
