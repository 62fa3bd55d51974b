import { type DescMessage, ScalarType, toBinary } from '@bufbuild/protobuf';
import { UpdateServiceAccountRequest } from '../../../generated/yandex/cloud/iam/v1/service_account_service.ts';
import { expect } from 'chai';
import * as fc from 'fast-check';
import { SetQuotaLimitRequest } from '../../../generated/obraz/v1/quota_admin.ts';
import { SetAccessBindingsRequest } from '../../../generated/yandex/cloud/access/access.ts';
import {
  CreateImageRequest,
  ListImagesRequest,
  UpdateImageRequest,
} from '../../../generated/yandex/cloud/compute/v1/image_service.ts';
import { CreateIamTokenRequest } from '../../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import { strictReader } from '../../../src/transport/decode.ts';
import { loadDescriptors } from '../../../src/transport/descriptors.ts';
import { createValidator, invalidRequest } from '../../../src/transport/validation.ts';
import { maxViolations } from '../../../src/transport/validation/message.ts';
import { messageArbitrary } from '../../support/message-arbitrary.ts';
import { testSeed } from '../../support/sample.ts';

interface Codec {
  decode(input: Uint8Array): Record<string, unknown>;
}

const descriptors = loadDescriptors();
const validator = createValidator(descriptors);
const images = '/yandex.cloud.compute.v1.ImageService';

const violated = (path: string, request: object): string[] =>
  validator
    .forMethod(path)(request)
    .map(({ field, description }) => `${field}: ${description}`);

/** Messages of a generated module nest by underscores, as ts-proto names them. */
async function codecOf(desc: DescMessage): Promise<Codec> {
  const module = (await import(`../../../generated/${desc.file.name}.ts`)) as Record<string, Codec>;
  return module[desc.typeName.slice(desc.file.proto.package.length + 1).replaceAll('.', '_')]!;
}

/** Every message of our own protos that a call may carry, nested ones included. */
function ownMessages(): DescMessage[] {
  const found: DescMessage[] = [];
  const visit = (desc: DescMessage): void => {
    found.push(desc);
    desc.nestedMessages.forEach(visit);
  };
  for (const file of descriptors.registry.files) {
    if (/^(yandex|obraz)\//.test(file.name)) file.messages.forEach(visit);
  }
  return found.filter((desc) => desc.proto.options?.mapEntry !== true);
}

describe('Validation of requests', () => {
  it('finds fields under the names that the generated code gives them, in every message', async () => {
    let count = 0;
    for (const desc of ownMessages()) {
      const codec = await codecOf(desc);
      const expected = desc.members.map(({ localName }) => localName);
      expect(Object.keys(codec.decode(new Uint8Array())), desc.typeName).to.have.members(expected);
      for (const oneof of desc.oneofs) {
        for (const field of oneof.fields) {
          // One field alone on the wire: its tag, then an empty value of its type.
          const isLengthDelimited =
            field.message !== undefined || field.scalar === ScalarType.STRING || field.scalar === ScalarType.BYTES;
          const tag = (field.number << 3) | (isLengthDelimited ? 2 : 0);
          const bytes = tag < 128 ? [tag, 0] : [(tag & 127) | 128, tag >> 7, 0];
          const chosen = codec.decode(Uint8Array.from(bytes))[oneof.localName];
          expect(chosen, field.toString()).to.have.property('$case', field.localName);
          count += 1;
        }
      }
    }
    expect(count).to.be.greaterThan(10);
  });

  it(`names only fields that exist, and never throws, whatever a client sends (OBRAZ_TEST_SEED=${testSeed})`, async () => {
    const requests = new Map<string, DescMessage>();
    for (const desc of descriptors.registry) {
      if (desc.kind !== 'service' || !/^(yandex|obraz)\./.test(desc.typeName)) continue;
      for (const { input } of desc.methods) if (/^(yandex|obraz)\./.test(input.typeName)) requests.set(input.typeName, input);
    }
    let violations = 0;
    for (const [typeName, desc] of requests) {
      const codec = await codecOf(desc);
      // A choice is named by itself, what was chosen by its own name.
      const names = new Set([...desc.fields, ...desc.oneofs].map(({ name }) => name));
      fc.assert(
        fc.property(messageArbitrary(desc), (message) => {
          const request = codec.decode(strictReader(toBinary(desc, message)));
          for (const { field, description } of validator.forType(typeName)(request)) {
            expect(names).to.include(/^[a-z0-9_]+/.exec(field)?.[0]);
            expect(description).to.have.length.within(5, 2000);
            violations += 1;
          }
        }),
        { seed: testSeed, numRuns: 20 },
      );
    }
    expect(violations).to.be.greaterThan(100);
  });

  it('takes what Terraform sends for unset fields: zero is not given', () => {
    const request = CreateImageRequest.fromPartial({
      folderId: 'b1g',
      minDiskSize: 0n,
      os: { type: 0 },
      source: { $case: 'uri', value: 'https://example.com/a.qcow2' },
    });
    expect(violated(`${images}/Create`, request)).to.deep.equal([]);
  });

  it('tells everything that is wrong at once, in the order of the fields', () => {
    const request = CreateImageRequest.fromPartial({
      name: 'Bad_Name',
      labels: { Bad: 'x', good: 'BAD', '': 'x' },
      minDiskSize: 10n,
      productIds: ['a', 'x'.repeat(51)],
      os: { type: 7 as 1 },
    });
    expect(violated(`${images}/Create`, request)).to.deep.equal([
      'folder_id: must be given',
      'name: "Bad_Name" does not match |[a-z]([-_a-z0-9]{0,61}[a-z0-9])?',
      'labels["Bad"]: key "Bad" does not match [a-z][-_./\\\\@0-9a-z]*',
      'labels["good"]: "BAD" does not match [-_./\\\\@0-9a-z]*',
      'labels[""]: key must have between 1 and 63 characters, has 0',
      'min_disk_size: must be between 4194304 and 4398046511104, is 10',
      'product_ids[1]: must have at most 50 characters, has 51',
      'os.type: must be one of TYPE_UNSPECIFIED, LINUX, WINDOWS, is 7',
    ]);
  });

  it('names elements of lists and what is nested in them', () => {
    const accessBindings = Array.from({ length: 4 }, () => ({
      roleId: 'viewer',
      subject: { id: 'aje', type: 'serviceAccount' },
    }));
    accessBindings[3]!.subject.id = '';
    accessBindings[2]!.roleId = '';
    const request = SetAccessBindingsRequest.fromPartial({ resourceId: 'fd8', accessBindings });
    expect(violated(`${images}/SetAccessBindings`, request)).to.deep.equal([
      'access_bindings[2].role_id: must be given',
      'access_bindings[3].subject.id: must be given',
    ]);
  });

  it('demands exactly one of a oneof, and takes an empty one for none', () => {
    const path = '/yandex.cloud.iam.v1.IamTokenService/Create';
    const fault = ['identity: exactly one of yandex_passport_oauth_token, jwt must be given'];
    expect(violated(path, CreateIamTokenRequest.fromPartial({}))).to.deep.equal(fault);
    expect(violated(path, CreateIamTokenRequest.fromPartial({ identity: { $case: 'jwt', value: '' } }))).to.deep.equal(fault);
    expect(violated(path, CreateIamTokenRequest.fromPartial({ identity: { $case: 'jwt', value: 'a.b.c' } }))).to.deep.equal([]);
  });

  it('takes a zero that was chosen of a oneof for a value', () => {
    const path = '/obraz.v1.QuotaAdminService/SetLimit';
    const limitOf = (limit: SetQuotaLimitRequest['limit']) =>
      violated(path, { ...SetQuotaLimitRequest.fromPartial({ cloudId: 'b1g', quotaId: 'compute.images.count' }), limit });
    expect(limitOf({ $case: 'value', value: 0n })).to.deep.equal([]);
    expect(limitOf({ $case: 'unlimited', value: {} })).to.deep.equal([]);
    expect(limitOf({ $case: 'value', value: -1n })).to.have.length(1);
    expect(limitOf(undefined)).to.deep.equal(['limit: exactly one of value, unlimited, reset must be given']);
  });

  it('never repeats a secret that is too long', () => {
    const jwt = 'secret'.repeat(2000);
    const [violation] = violated('/yandex.cloud.iam.v1.IamTokenService/Create', {
      ...CreateIamTokenRequest.fromPartial({ identity: { $case: 'jwt', value: jwt } }),
    });
    expect(violation).to.equal('jwt: must have at most 8000 characters, has 12000');
  });

  it('looks at nothing of an update that its mask does not name, and always at what is updated', () => {
    const check = validator.forMethod('/yandex.cloud.iam.v1.ServiceAccountService/Update');
    const fieldsOf = (request: Partial<UpdateServiceAccountRequest>) =>
      check(UpdateServiceAccountRequest.fromPartial(request)).map(({ field }) => field);
    expect(fieldsOf({ serviceAccountId: 'aje', updateMask: ['description'] })).to.deep.equal([]);
    expect(fieldsOf({ serviceAccountId: 'aje', name: '?', updateMask: ['description', 'labels'] })).to.deep.equal([]);
    expect(fieldsOf({ serviceAccountId: 'aje', name: '?', updateMask: ['name'] })).to.deep.equal(['name']);
    expect(fieldsOf({ serviceAccountId: 'aje', name: '?' })).to.deep.equal(['name']);
    expect(fieldsOf({ serviceAccountId: '', updateMask: ['description'] })).to.deep.equal(['service_account_id']);
    expect(fieldsOf({ serviceAccountId: 'aje', labels: { '?': '' }, updateMask: ['labels'] })[0]).to.match(/^labels/);
  });

  it('leaves update masks to the methods, which know what can be updated', () => {
    const request = UpdateImageRequest.fromPartial({ imageId: 'fd8', updateMask: ['no_such_field'] });
    expect(violated(`${images}/Update`, request)).to.deep.equal([]);
  });

  it('knows both ends of a page size', () => {
    const list = (pageSize: bigint): string[] =>
      violated(`${images}/List`, ListImagesRequest.fromPartial({ folderId: 'b1g', pageSize }));
    expect(list(0n)).to.deep.equal([]);
    expect(list(1000n)).to.deep.equal([]);
    expect(list(1001n)).to.deep.equal(['page_size: must be at most 1000, is 1001']);
  });

  it('stops at a bound when a request is wrong in thousands of places', () => {
    const request = CreateImageRequest.fromPartial({
      folderId: 'b1g',
      productIds: Array.from({ length: 50_000 }, () => 'x'.repeat(51)),
    });
    const violations = validator.forMethod(`${images}/Create`)(request);
    expect(violations).to.have.length(maxViolations);
    const error = invalidRequest(violations);
    expect(error.code).to.equal('INVALID_ARGUMENT');
    expect(error.message).to.match(/^product_ids\[0\]: must have .*; and \d+ more$/);
    expect(error.message.length).to.be.lessThan(1200);
    expect(error.details).to.deep.equal([{ kind: 'badRequest', violations: [...violations] }]);
  });

  it('refuses to work for methods and types that the contract lacks', () => {
    expect(() => validator.forMethod('/a.B/C')).to.throw('no method /a.B/C');
    expect(() => validator.forType('a.B')).to.throw('no message a.B');
  });
});
