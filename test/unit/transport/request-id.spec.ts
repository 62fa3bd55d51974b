import { expect } from 'chai';
import { newRequestId } from '../../../src/transport/request-id.ts';

describe('A request id', () => {
  it('looks like a UUID, and is given out once', () => {
    const ids = Array.from({ length: 10_000 }, newRequestId);
    expect(new Set(ids).size).to.equal(10_000);
    for (const id of ids) expect(id).to.match(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});
