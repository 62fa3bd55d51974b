import { expect } from 'chai';
import { assertReady, changeStatus, type ResourceStatus, resourceStatuses } from '../../../src/resources/status.ts';

const allowed = new Set(['CREATING READY', 'CREATING DELETING', 'READY DELETING', 'ERROR DELETING']);

const imageOf = (status: ResourceStatus) => ({ id: 'fd8x', status });

describe('the life of an image, a disk and a snapshot', () => {
  for (const from of resourceStatuses) {
    for (const to of resourceStatuses) {
      const may = allowed.has(`${from} ${to}`);
      it(`${may ? 'lets' : 'does not let'} ${from} become ${to}`, () => {
        const image = imageOf(from);
        if (may) {
          changeStatus('Image', image, to);
          expect(image.status).to.equal(to);
        } else {
          expect(() => changeStatus('Image', image, to))
            .to.throw(`Image fd8x is ${from}`)
            .with.property('code', 'FAILED_PRECONDITION');
          expect(image.status).to.equal(from);
        }
      });
    }
  }

  it('lets only a READY image be used', () => {
    assertReady('Image', imageOf('READY'));
    for (const status of ['CREATING', 'ERROR', 'DELETING'] as const) {
      expect(() => assertReady('Image', imageOf(status))).to.throw(`Image fd8x is ${status}`);
    }
  });
});
