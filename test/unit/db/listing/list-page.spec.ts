import { defineEntity, wrap } from '@mikro-orm/core';
import { expect } from 'chai';
import * as fc from 'fast-check';
import { instant, int8, text } from '../../../../src/db/columns.ts';
import { listPage, type ListDefinition, type ListQuery } from '../../../../src/db/listing/list-page.ts';
import { DomainError } from '../../../../src/platform/errors.ts';
import { testOrm, type TestOrm } from '../../../support/test-orm.ts';

const ThingSchema = defineEntity({
  name: 'Thing',
  tableName: 'things',
  properties: { id: text().primary(), folderId: text(), createdAt: instant(), name: text(), size: int8(), status: text() },
});
class Thing extends ThingSchema.class {}
ThingSchema.setClass(Thing);

const definition: ListDefinition<Thing> = {
  method: 'test.ThingService/List',
  entity: Thing,
  fields: {
    id: { type: 'text' },
    name: { type: 'text' },
    createdAt: { type: 'instant' },
    size: { type: 'integer' },
    status: { type: 'text', values: ['READY', 'CREATING'], sorts: false },
  },
};

/** Names and ids that locales sort otherwise than bytes do. */
const names = ['', 'a', 'a-b', 'a_b', 'ab', 'b', 'a--', 'z9'];

let database: TestOrm;

const list = (query: Partial<ListQuery<Thing>> = {}) =>
  listPage(database.orm.em.fork(), definition, { scope: { folderId: 'folder' }, pageSize: 0n, pageToken: '', ...query });

async function listAll(query: Partial<ListQuery<Thing>>, pageSize: number): Promise<Thing[]> {
  const all: Thing[] = [];
  let pageToken = '';
  do {
    const page = await list({ ...query, pageSize, pageToken });
    expect(page.items).to.have.length.at.most(pageSize);
    if (page.nextPageToken !== '') expect(page.items).to.have.length(pageSize);
    expect(page.nextPageToken.length).to.be.at.most(100);
    all.push(...page.items);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return all;
}

const byBytes = (a: string | number, b: string | number) =>
  typeof a === 'number' ? a - (b as number) : Buffer.compare(Buffer.from(a), Buffer.from(b as string));

async function refusal(query: Partial<ListQuery<Thing>>): Promise<DomainError> {
  try {
    await list(query);
  } catch (error) {
    if (error instanceof DomainError) return error;
    throw error;
  }
  throw new Error('the query was accepted');
}

describe('listPage', () => {
  before(async () => {
    database = await testOrm([ThingSchema]);
    const em = database.orm.em.fork();
    for (let index = 0; index < 60; index++) {
      em.create(Thing, {
        id: `${'a-_b'[index % 4]}${(index * 7919) % 100}${index}`,
        folderId: index % 6 === 5 ? 'other' : 'folder',
        createdAt: new Date(1_700_000_000_000 + (index % 7)),
        name: names[index % names.length]!,
        size: (index % 5) * 2 ** 40,
        status: index % 3 === 0 ? 'CREATING' : 'READY',
      });
    }
    await em.flush();
  });

  after(() => database?.[Symbol.asyncDispose]());

  it('gives every row of the scope once, by id and byte, whatever the page size', async () => {
    const ids = (await list()).items.map(({ id }) => id);
    expect(ids).to.have.length(50);
    expect(ids).to.deep.equal([...ids].sort(byBytes));
    for (const pageSize of [1, 7, 49, 50, 51]) {
      expect((await listAll({}, pageSize)).map(({ id }) => id)).to.deep.equal(ids);
    }
  });

  it('sorts by any field in both directions, ties by id in the same direction', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('id', 'name', 'createdAt', 'created_at', 'size'),
        fc.constantFrom('', ' asc', ' desc', '  DESC '),
        fc.integer({ min: 1, max: 60 }),
        async (field, direction, pageSize) => {
          const things = await listAll({ orderBy: `${field}${direction}` }, pageSize);
          const value = (thing: Thing) =>
            field.startsWith('created') ? thing.createdAt.getTime() : thing[field as 'id' | 'name' | 'size'];
          const sign = direction.trim().toLowerCase() === 'desc' ? -1 : 1;
          const expected = [...things].sort((a, b) => sign * (byBytes(value(a), value(b)) || byBytes(a.id, b.id)));
          expect(things).to.have.length(50);
          expect(things.map(({ id }) => id)).to.deep.equal(expected.map(({ id }) => id));
        },
      ),
      { numRuns: 40 },
    );
  });

  it('filters by =, !=, IN and NOT IN, joined by AND', async () => {
    const { items: all } = await list();
    const expectMatches = async (filter: string, matches: (thing: Thing) => boolean) => {
      const expected = all.filter(matches).map(({ id }) => id);
      expect(expected, filter).not.to.be.empty;
      expect(
        (await listAll({ filter }, 4)).map(({ id }) => id),
        filter,
      ).to.deep.equal(expected);
    };
    await expectMatches('name = "a-b"', ({ name }) => name === 'a-b');
    await expectMatches('name!="a-b"', ({ name }) => name !== 'a-b');
    await expectMatches("name IN ('a', 'b')", ({ name }) => ['a', 'b'].includes(name));
    await expectMatches(
      'name not in ("a","b") and status="READY"',
      ({ name, status }) => !['a', 'b'].includes(name) && status === 'READY',
    );
    await expectMatches('size = 1099511627776', ({ size }) => size === 2 ** 40);
    await expectMatches('created_at = "2023-11-14T22:13:20.003Z"', ({ createdAt }) => createdAt.getTime() === 1_700_000_000_003);
    await expectMatches(
      'createdAt != "2023-11-15T01:13:20.003+03:00"',
      ({ createdAt }) => createdAt.getTime() !== 1_700_000_000_003,
    );
  });

  it('takes values as values: quotes and SQL in a string match nothing', async () => {
    for (const value of [`x' or '1'='1`, '?', '??', '%', ':name', "'; drop table things; --"]) {
      const filter = `name = "${value}"`;
      expect((await list({ filter })).items, filter).to.deep.equal([]);
    }
    expect((await list()).items).to.have.length(50);
  });

  it('answers an empty list without a token', async () => {
    expect(await list({ scope: { folderId: 'nothing' }, pageSize: 1 })).to.deep.equal({ items: [], nextPageToken: '' });
  });

  it('neither repeats nor skips rows while others come and go between pages', async () => {
    const original = (await list()).items.map(({ id }) => id);
    const em = database.orm.em.fork();
    const seen: string[] = [];
    let pageToken = '';
    let added = 0;
    do {
      const page = await list({ pageSize: 6, pageToken, orderBy: 'name desc' });
      seen.push(...page.items.map(({ id }) => id));
      pageToken = page.nextPageToken;
      for (const name of names) {
        em.create(Thing, { ...wrap(page.items[0]!).toPOJO(), id: `new${added++}`, name });
      }
      await em.flush();
    } while (pageToken !== '' && added < 1000);
    expect(added).to.be.below(1000);
    expect(new Set(seen).size).to.equal(seen.length);
    expect(seen.filter((id) => !id.startsWith('new')).sort(byBytes)).to.deep.equal(original);
    await em.nativeDelete(Thing, { id: { $like: 'new%' } });
  });

  it('goes on after the last row even when that row was deleted', async () => {
    const em = database.orm.em.fork();
    const thing = em.create(Thing, { ...wrap((await list()).items[0]!).toPOJO(), id: '!', name: 'gone' });
    await em.flush();
    const { items, nextPageToken } = await list({ pageSize: 1 });
    expect(items[0]!.id).to.equal('!');
    await em.remove(thing).flush();
    expect((await list({ pageToken: nextPageToken })).items).to.have.length(50);
  });

  it('refuses the token of another scope, filter, order or method, and takes another page size', async () => {
    const query = { filter: 'status = "READY"', orderBy: 'name', pageSize: 3 };
    const { nextPageToken: pageToken } = await list(query);
    expect(pageToken).not.to.equal('');
    const others: Partial<ListQuery<Thing>>[] = [
      { scope: { folderId: 'other' } },
      { filter: 'status != "READY"' },
      { filter: '' },
      { orderBy: 'name desc' },
      { orderBy: 'size' },
      { orderBy: '' },
    ];
    for (const other of others) {
      const { code, message } = await refusal({ ...query, pageToken, ...other });
      expect(code).to.equal('INVALID_ARGUMENT');
      expect(message).to.match(/^page_token: /);
    }
    const foreign = { ...definition, method: 'test.ThingService/Other' };
    const scope = { folderId: 'folder' };
    const error = await listPage(database.orm.em.fork(), foreign, { ...query, scope, pageToken }).catch(
      (reason: unknown) => reason,
    );
    expect(error).to.be.instanceOf(DomainError);
    expect(
      (await list({ ...query, pageToken, pageSize: 5, filter: "status='READY'", orderBy: 'name asc' })).items,
    ).to.have.length(5);
  });

  it('refuses bad fields, values, orders, sizes and tokens by name', async () => {
    const cases: [Partial<ListQuery<Thing>>, RegExp][] = [
      [{ filter: 'folder_id = "x"' }, /^filter: cannot filter by "folder_id"; choose from id, name, createdAt, size, status$/],
      [{ filter: 'constructor = "x"' }, /^filter: cannot filter by "constructor"/],
      [{ filter: 'status = "OLD"' }, /^filter: status is one of READY, CREATING, not "OLD"$/],
      [{ filter: 'name = 5' }, /^filter: name is compared with a string/],
      [{ filter: 'size = "big"' }, /^filter: size is compared with an integer/],
      [{ filter: 'size = 99999999999999999999' }, /^filter: size is compared with an integer/],
      [{ filter: 'createdAt = "yesterday"' }, /^filter: createdAt is compared with an instant/],
      [{ orderBy: 'status' }, /^order_by: cannot order by "status"; choose from id, name, createdAt, size$/],
      [{ orderBy: 'name, id' }, /^order_by: must be one field/],
      [{ orderBy: 'name up' }, /^order_by: must be one field/],
      [{ orderBy: 'toString' }, /^order_by: cannot order by "toString"/],
      [{ pageSize: -1n }, /^page_size: must be in the range 0-1000, not -1$/],
      [{ pageSize: 1001n }, /^page_size: /],
      [{ pageToken: 'x' }, /^page_token: /],
      [{ pageToken: 'x'.repeat(100) }, /^page_token: /],
    ];
    for (const [query, message] of cases) {
      const error = await refusal(query);
      expect(error.code).to.equal('INVALID_ARGUMENT');
      expect(error.message).to.match(message);
    }
  });
});
