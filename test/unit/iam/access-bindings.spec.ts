import { expect } from 'chai';
import * as fc from 'fast-check';
import { AccessBindingAction } from '../../../generated/yandex/cloud/access/access.ts';
import { AccessBindingSchema } from '../../../src/iam/access-binding.entity.ts';
import {
  parseBindingDeltas,
  parseBindings,
  toBindingMessage,
  toBindingsResult,
} from '../../../src/iam/access-bindings.mapper.ts';
import {
  type Binding,
  type BindingDelta,
  listBindings,
  removeBindings,
  setBindings,
  updateBindings,
} from '../../../src/iam/access-bindings.ts';
import { DomainError } from '../../../src/platform/errors.ts';
import { expectRefusal } from '../../support/call.ts';
import { testOrm, type TestOrm } from '../../support/test-orm.ts';

const binding = (roleId: string, id: string, type = 'userAccount'): Binding => ({ roleId, subject: { id, type } });
const add = (added: Binding): BindingDelta => ({ action: 'ADD', binding: added });
const remove = (removed: Binding): BindingDelta => ({ action: 'REMOVE', binding: removed });

describe('Access bindings', () => {
  let database: TestOrm;
  let next = 0;

  before(async () => {
    database = await testOrm([AccessBindingSchema]);
  });

  after(() => database?.[Symbol.asyncDispose]());

  const someImage = () => ({ kind: 'compute.image', id: `fd8${next++}` }) as const;
  const set = (resource: ReturnType<typeof someImage>, bindings: Binding[]) =>
    database.orm.em.fork().transactional((em) => setBindings(em, resource, bindings));
  const update = (resource: ReturnType<typeof someImage>, deltas: BindingDelta[]) =>
    database.orm.em.fork().transactional((em) => updateBindings(em, resource, deltas));

  async function list(resource: ReturnType<typeof someImage>, pageSize = 0): Promise<Binding[]> {
    const all: Binding[] = [];
    let pageToken = '';
    do {
      const page = await listBindings(database.orm.em.fork(), resource, { pageSize: BigInt(pageSize), pageToken });
      if (page.nextPageToken !== '') expect(page.bindings).to.have.length(pageSize || 100);
      expect(page.nextPageToken.length).to.be.at.most(100);
      all.push(...page.bindings);
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    return all;
  }

  it('are none at first, then those that were set, in order and verbatim', async () => {
    const image = someImage();
    expect(await list(image)).to.deep.equal([]);
    const bindings = [
      binding('viewer', 'b'),
      binding('admin', 'a'),
      binding('viewer', 'allUsers', 'system'),
      binding('admin', 'Ä ж', 'federatedUser'),
    ];
    expect(await set(image, bindings)).to.deep.equal(bindings.map(add));
    expect(await list(image)).to.deep.equal(bindings);
    expect(await list(someImage())).to.deep.equal([]);
  });

  it('are replaced as a whole by a set, which tells what went and what came', async () => {
    const image = someImage();
    const [a, b, c] = [binding('viewer', 'a'), binding('viewer', 'b'), binding('viewer', 'c')];
    await set(image, [a, b]);
    expect(await set(image, [c, b, c, b])).to.deep.equal([remove(a), add(c)]);
    expect(await list(image)).to.deep.equal([c, b]);
    expect(await set(image, [])).to.deep.equal([remove(c), remove(b)]);
    expect(await list(image)).to.deep.equal([]);
  });

  it('take single changes in order; what changes nothing is not told', async () => {
    const image = someImage();
    const [a, b, c] = [binding('viewer', 'a'), binding('viewer', 'b'), binding('viewer', 'c')];
    await set(image, [a, b]);
    expect(await update(image, [add(a), remove(c), add(c), add(c), remove(a)])).to.deep.equal([add(c), remove(a)]);
    expect(await list(image)).to.deep.equal([b, c]);
    expect(await update(image, [remove(b), add(b)])).to.deep.equal([remove(b), add(b)]);
    expect(await list(image)).to.deep.equal([c, b]);
    expect(await update(image, [add(a), remove(a)])).to.deep.equal([add(a), remove(a)]);
    expect(await update(image, [add(b), remove(a)])).to.deep.equal([]);
    expect(await list(image)).to.deep.equal([c, b]);
  });

  it('differ by role, subject type and subject id', async () => {
    const image = someImage();
    const bindings = [
      binding('viewer', 'a'),
      binding('editor', 'a'),
      binding('viewer', 'a', 'serviceAccount'),
      binding('viewer', 'A'),
    ];
    await set(image, bindings);
    expect(await update(image, [remove(bindings[0]!)])).to.have.length(1);
    expect(await list(image)).to.deep.equal(bindings.slice(1));
  });

  it('hold, after any updates, what a plain list would', async () => {
    const some = fc.constantFrom('a', 'b', 'c', 'd').map((id) => binding('viewer', id));
    const delta = fc.record({ action: fc.constantFrom('ADD' as const, 'REMOVE' as const), binding: some });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(delta, { minLength: 1, maxLength: 6 }), { maxLength: 5 }), async (updates) => {
        const image = someImage();
        let model: Binding[] = [];
        for (const deltas of updates) {
          const expected: BindingDelta[] = [];
          for (const one of deltas) {
            const has = model.some(({ subject }) => subject.id === one.binding.subject.id);
            if (has === (one.action === 'ADD')) continue;
            expected.push(one);
            model = has ? model.filter(({ subject }) => subject.id !== one.binding.subject.id) : [...model, one.binding];
          }
          expect(await update(image, deltas)).to.deep.equal(expected);
          expect(await list(image)).to.deep.equal(model);
        }
      }),
      { numRuns: 25 },
    );
  });

  it('come page by page, up to a thousand, and never more', async () => {
    const image = someImage();
    const thousand = Array.from({ length: 1000 }, (_, index) => binding('viewer', `user${index}`));
    await set(image, thousand);
    expect(await list(image)).to.deep.equal(thousand);
    expect(await list(image, 1000)).to.deep.equal(thousand);
    expect(await list(image, 333)).to.deep.equal(thousand);
    await expectRefusal(
      update(image, [add(binding('viewer', 'one more'))]),
      'FAILED_PRECONDITION',
      /1001 access bindings; at most 1000/,
    );
    expect(await update(image, [remove(thousand[0]!), add(binding('viewer', 'one more'))])).to.have.length(2);
    const { nextPageToken } = await listBindings(database.orm.em.fork(), image, { pageSize: 1n, pageToken: '' });
    await expectRefusal(
      listBindings(database.orm.em.fork(), someImage(), { pageSize: 1n, pageToken: nextPageToken }),
      'INVALID_ARGUMENT',
      /^page_token/,
    );
  });

  it('survive changes at the same time: each of 20 concurrent additions is there', async () => {
    const image = someImage();
    const bindings = Array.from({ length: 20 }, (_, index) => binding('viewer', `user${index}`));
    const effective = await Promise.all(bindings.map((one) => update(image, [add(one), add(binding('admin', 'same'))])));
    expect(effective.flat()).to.have.length(21);
    expect(new Set((await list(image)).map(({ subject }) => subject.id)).size).to.equal(21);
  });

  it('go with their resource alone', async () => {
    const [gone, stays] = [someImage(), someImage()];
    for (const image of [gone, stays]) await set(image, [binding('viewer', 'a')]);
    await database.orm.em.fork().transactional((em) => removeBindings(em, gone));
    expect(await list(gone)).to.deep.equal([]);
    expect(await list(stays)).to.have.length(1);
  });

  it('are read from messages, with all violations at once', () => {
    const subject = { id: 'x', type: 'userAccount' };
    const good = [
      { roleId: 'compute.images.user', subject: { id: 'allAuthenticatedUsers', type: 'system' } },
      { roleId: 'viewer', subject: { id: 'group:organization:bpf1:users', type: 'system' } },
      { roleId: 'viewer', subject: { id: 'anything at all', type: 'group' } },
    ];
    expect(parseBindings(good)).to.deep.equal(good);
    expect(parseBindings(good).map(toBindingMessage)).to.deep.equal(good);
    try {
      parseBindings([
        { roleId: 'no.such.role', subject },
        { roleId: 'viewer', subject: { id: 'x', type: 'robot' } },
        { roleId: 'viewer', subject: { id: 'everyone', type: 'system' } },
        { roleId: '', subject: undefined },
      ]);
      throw new Error('accepted');
    } catch (error) {
      const { code, message, details } = error as DomainError;
      expect([code, message]).to.deep.equal(['INVALID_ARGUMENT', 'access_bindings[0].role_id: there is no role "no.such.role"']);
      const [detail] = details;
      expect(detail?.kind === 'badRequest' && detail.violations.map(({ field }) => field)).to.deep.equal([
        'access_bindings[0].role_id',
        'access_bindings[1].subject.type',
        'access_bindings[2].subject.id',
        'access_bindings[3].role_id',
        'access_bindings[3].subject.type',
        'access_bindings[3].subject.id',
      ]);
    }
    expect(() => parseBindings(Array.from({ length: 1001 }, () => good[0]!))).to.throw(
      DomainError,
      /at most 1000 items, not 1001/,
    );
  });

  it('are read from deltas and written into results', () => {
    const accessBinding = { roleId: 'viewer', subject: { id: 'x', type: 'userAccount' } };
    const messages = [
      { action: AccessBindingAction.ADD, accessBinding },
      { action: AccessBindingAction.REMOVE, accessBinding },
    ];
    expect(toBindingsResult(parseBindingDeltas(messages))).to.deep.equal({ effectiveDeltas: messages });
    expect(() => parseBindingDeltas([{ action: AccessBindingAction.ACCESS_BINDING_ACTION_UNSPECIFIED, accessBinding }])).to.throw(
      DomainError,
      'access_binding_deltas[0].action: must be ADD or REMOVE',
    );
    expect(() => parseBindingDeltas([{ action: AccessBindingAction.ADD, accessBinding: undefined }])).to.throw(
      DomainError,
      /^access_binding_deltas\[0\]\.access_binding\.role_id/,
    );
  });
});
