import { execFile, spawnSync } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { create, createFileRegistry, fromBinary, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { type ClientDuplexStream, type ServiceClientConstructor, credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { expect } from 'chai';
import { symbolFiles } from '../../../src/transport/reflection-symbols.ts';
import { reflectionServices } from '../../../src/transport/reflection.ts';
import { withStandardServices } from '../../../src/transport/standard-services.ts';
import { type TestServer, descriptors, startTestServer } from './test-server.ts';

const served = ['grpc.health.v1.Health', 'obraz.v1.ProgressService', 'yandex.cloud.compute.v1.ImageService'];
const versions = ['v1', 'v1alpha'] as const;

interface Answer {
  validHost: string;
  originalRequest: Record<string, unknown>;
  fileDescriptorResponse?: { fileDescriptorProto: Buffer[] };
  listServicesResponse?: { service: { name: string }[] };
  allExtensionNumbersResponse?: { baseTypeName: string; extensionNumber: number[] };
  errorResponse?: { errorCode: number; errorMessage: string };
}

type Conversation = ClientDuplexStream<object, Answer>;

/** Opens a stream with the stubs that @grpc/proto-loader makes of the protocol's own files. */
function converse(address: string, version: (typeof versions)[number]): { stream: Conversation; close: () => void } {
  const proto = path.join(
    import.meta.dirname,
    `../../../node_modules/@grpc/reflection/build/proto/grpc/reflection/${version}/reflection.proto`,
  );
  const loaded = loadPackageDefinition(loadSync(proto)) as unknown as Loaded;
  const client = new loaded.grpc.reflection[version]!.ServerReflection(address, credentials.createInsecure());
  return { stream: client['serverReflectionInfo']!() as Conversation, close: () => client.close() };
}

interface Loaded {
  grpc: { reflection: Record<string, { ServerReflection: ServiceClientConstructor }> };
}

function ask(address: string, version: (typeof versions)[number], requests: object[]): Promise<Answer[]> {
  const { stream, close } = converse(address, version);
  return new Promise((resolve, reject) => {
    const answers: Answer[] = [];
    stream.on('data', (answer: Answer) => answers.push(answer));
    stream.once('error', reject);
    stream.once('end', () => {
      close();
      resolve(answers);
    });
    for (const request of requests) stream.write(request);
    stream.end();
  });
}

/** The files of an answer as a registry; throws unless each comes before what it imports. */
function registryOf({ fileDescriptorResponse }: Answer) {
  const file = fileDescriptorResponse!.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
  return { file, registry: createFileRegistry(create(FileDescriptorSetSchema, { file: file.toReversed() })) };
}

describe('Reflection', () => {
  let test: TestServer;
  before(async () => {
    test = await startTestServer({ services: reflectionServices(descriptors, served), graceMs: 600_000 });
  });
  after(() => test.stop());

  for (const version of versions) {
    describe(version, () => {
      const askFor = (...requests: object[]): Promise<Answer[]> => ask(test.address, version, requests);

      it('lists what is served, and itself', async () => {
        const [answer] = await askFor({ host: 'h', listServices: '*' });
        expect(answer!.listServicesResponse!.service.map(({ name }) => name)).to.have.members([
          ...served,
          'grpc.reflection.v1.ServerReflection',
          'grpc.reflection.v1alpha.ServerReflection',
        ]);
        expect([answer!.validHost, answer!.originalRequest]).to.deep.equal(['h', { host: 'h', listServices: '*' }]);
      });

      it('finds the file of every symbol with all that it imports, byte for byte', async () => {
        const files = new Map(descriptors.set.file.map((file) => [file.name, toBinary(FileDescriptorProtoSchema, file)]));
        const symbols = [...symbolFiles(descriptors.registry)];
        expect(symbols.length).to.be.greaterThan(1_000);
        const answers = await askFor(...symbols.map(([symbol]) => ({ fileContainingSymbol: symbol })));
        expect(answers.length).to.equal(symbols.length);
        const checked = new Set<string>();
        for (const [index, [symbol, name]] of symbols.entries()) {
          const { fileDescriptorProto } = answers[index]!.fileDescriptorResponse!;
          expect(Buffer.compare(fileDescriptorProto[0]!, files.get(name)!), symbol).to.equal(0);
          if (checked.has(name)) continue;
          checked.add(name);
          const { registry, file } = registryOf(answers[index]!);
          expect(new Set(file.map((each) => each.name)).size).to.equal(file.length);
          expect(registry.getFile(name)).to.not.equal(undefined);
        }
      });

      it('finds files by name and by extension, and the extensions of a type', async () => {
        const [byName, byExtension, numbers] = await askFor(
          { fileByFilename: 'yandex/cloud/compute/v1/image_service.proto' },
          { fileContainingExtension: { containingType: 'google.protobuf.FieldOptions', extensionNumber: 101501 } },
          { allExtensionNumbersOfType: 'google.protobuf.FieldOptions' },
        );
        expect(registryOf(byName!).registry.getService('yandex.cloud.compute.v1.ImageService')).to.not.equal(undefined);
        expect(registryOf(byExtension!).file[0]!.name).to.equal('yandex/cloud/validation.proto');
        expect(numbers!.allExtensionNumbersResponse!.extensionNumber).to.include.members([101501, 101502, 101503]);
      });

      it('says what it does not know, and goes on', async () => {
        const answers = await askFor(
          { fileContainingSymbol: 'no.such.Symbol' },
          { fileByFilename: '../../etc/passwd' },
          { fileContainingExtension: { containingType: 'google.protobuf.FieldOptions', extensionNumber: 1 } },
          { allExtensionNumbersOfType: 'no.such.Type' },
          { fileContainingSymbol: 'x'.repeat(100_000) },
          { fileContainingSymbol: '__proto__' },
          {},
          { listServices: '' },
        );
        expect(answers.map(({ errorResponse }) => errorResponse?.errorCode)).to.deep.equal([5, 5, 5, 5, 5, 5, 3, undefined]);
        expect(answers[0]!.errorResponse!.errorMessage).to.equal('the symbol no.such.Symbol is not known');
        expect(answers[4]!.errorResponse!.errorMessage.length).to.be.lessThan(300);
      });
    });
  }

  it('and health come with the services of a server, and know them', async () => {
    const { services } = withStandardServices(descriptors, [{ name: 'some.Service', definition: {}, handlers: () => ({}) }]);
    expect(services.map(({ name }) => name)).to.deep.equal([
      'some.Service',
      'grpc.health.v1.Health',
      'grpc.reflection.v1.ServerReflection',
      'grpc.reflection.v1alpha.ServerReflection',
    ]);
    await using hosting = await startTestServer({ services: services.slice(1) });
    const [answer] = await ask(hosting.address, 'v1', [{ listServices: '' }]);
    expect(answer!.listServicesResponse!.service.map(({ name }) => name)).to.include.members([
      'some.Service',
      'grpc.health.v1.Health',
    ]);
  });

  it('does not hold the server up when it stops', async () => {
    const stopping = await startTestServer({ services: reflectionServices(descriptors, served), graceMs: 600_000 });
    const { stream, close } = converse(stopping.address, 'v1');
    const first = new Promise((resolve) => stream.once('data', resolve));
    stream.write({ listServices: '' });
    await first;
    const ended = new Promise((resolve) => stream.once('end', resolve).once('error', resolve));
    await stopping.server[Symbol.asyncDispose]();
    await ended;
    close();
    await stopping.stop();
  });

  describe('for grpcurl', () => {
    const run = promisify(execFile);
    const grpcurl = async (...args: string[]): Promise<string> =>
      (await run('grpcurl', ['-plaintext', test.address, ...args])).stdout;

    before(function () {
      if (spawnSync('grpcurl', ['-version']).error !== undefined) {
        console.warn('SKIPPED: grpcurl is not installed (go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest)');
        this.skip();
      }
    });

    it('lists and describes every service', async () => {
      const names = (await grpcurl('list')).trim().split('\n');
      expect(names).to.include.members(served);
      for (const name of names) expect(await grpcurl('describe', name)).to.include(`${name} is a service:`);
    });

    it('describes methods and messages with their options', async () => {
      const create_ = await grpcurl('describe', 'yandex.cloud.compute.v1.ImageService.Create');
      expect(create_).to.include('option (.google.api.http) = { post: "/compute/v1/images", body: "*" };');
      expect(create_).to.include('option (.yandex.cloud.api.operation)');
      const message = await grpcurl('describe', '.yandex.cloud.compute.v1.CreateImageRequest');
      expect(message)
        .to.include('(.yandex.cloud.required) = true')
        .and.to.include('(.yandex.cloud.value) = "4194304-4398046511104"');
    });

    it('shows errors with their details', async () => {
      const failed = await run('grpcurl', [
        '-plaintext',
        '-H',
        'authorization: Bearer t1.good.token',
        '-d',
        '{"image_id": ""}',
        test.address,
        'yandex.cloud.compute.v1.ImageService/Get',
      ]).catch((error: { stderr: string }) => error);
      expect(failed.stderr)
        .to.include('yandex.cloud.compute.v1.ImageService/Get is not implemented')
        .and.to.include('RequestInfo');
    });
  });
});
