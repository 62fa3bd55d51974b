import { expect } from 'chai';
import { assertReady, changeStatus, type ImageStatus } from '../../../src/images/image-status.ts';
import { Image } from '../../../src/images/image.entity.ts';

const statuses: ImageStatus[] = ['CREATING', 'READY', 'ERROR', 'DELETING'];
const allowed = new Set(['CREATING READY', 'CREATING DELETING', 'READY DELETING', 'ERROR DELETING']);

const imageOf = (status: ImageStatus): Image => Object.assign(Object.create(Image.prototype) as Image, { id: 'fd8x', status });

describe('the life of an image', () => {
  for (const from of statuses) {
    for (const to of statuses) {
      const may = allowed.has(`${from} ${to}`);
      it(`${may ? 'lets' : 'does not let'} ${from} become ${to}`, () => {
        const image = imageOf(from);
        if (may) {
          changeStatus(image, to);
          expect(image.status).to.equal(to);
        } else {
          expect(() => changeStatus(image, to))
            .to.throw(`Image fd8x is ${from}`)
            .with.property('code', 'FAILED_PRECONDITION');
          expect(image.status).to.equal(from);
        }
      });
    }
  }

  it('lets only a READY image be used', () => {
    assertReady(imageOf('READY'));
    for (const status of ['CREATING', 'ERROR', 'DELETING'] as const) {
      expect(() => assertReady(imageOf(status))).to.throw(`Image fd8x is ${status}`);
    }
  });
});
