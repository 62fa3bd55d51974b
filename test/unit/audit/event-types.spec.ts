import { expect } from 'chai';
import { auditedMethods, eventTypeOf } from '../../../src/audit/event-types.ts';
import { loadDescriptors, methodPaths } from '../../../src/transport/descriptors.ts';

describe('The table of audit events', () => {
  const methods = methodPaths(loadDescriptors()).map((path) => path.slice(1));
  const ours = methods.filter((method) => !method.startsWith('grpc.'));
  const reads = /\/(Get|List|Watch|Tail)/;

  it('has a row for every method that changes something', () => {
    expect(ours.filter((method) => !reads.test(method) && eventTypeOf(method) === undefined)).to.deep.equal([]);
  });

  it('has no row for a method that reads, nor for one that is not there', () => {
    expect(auditedMethods().filter((method) => reads.test(method) || !ours.includes(method))).to.deep.equal([]);
  });

  it('names every event otherwise, as the public service does', () => {
    const names = auditedMethods().map((method) => eventTypeOf(method)!.name);
    expect(new Set(names).size).to.equal(names.length);
    expect(names).to.include.members([
      'yandex.cloud.audit.compute.CreateImage',
      'yandex.cloud.audit.compute.UpdateSnapshotAccessBindings',
      'yandex.cloud.audit.iam.CreateServiceAccount',
      'yandex.cloud.audit.iam.DeleteKey',
      'yandex.cloud.audit.resourcemanager.SetFolderAccessBindings',
      'obraz.audit.quotas.SetQuotaLimit',
    ]);
  });
});
