import { expect } from 'chai';
import { formatAddress, parseAddress } from '../../../src/platform/address.ts';

describe('An address to listen on', () => {
  const good: [string, string, number][] = [
    ['127.0.0.1:50051', '127.0.0.1', 50051],
    ['0.0.0.0:0', '0.0.0.0', 0],
    ['localhost:8443', 'localhost', 8443],
    ['obraz.example.com:443', 'obraz.example.com', 443],
    ['[::1]:50051', '::1', 50051],
    ['[::]:0', '::', 0],
    ['[fe80::1%eth0]:80', 'fe80::1%eth0', 80],
  ];
  for (const [text, host, port] of good) {
    it(`is read from ${text} and written back alike`, () => {
      expect(parseAddress(text)).to.deep.equal({ host, port });
      expect(formatAddress({ host, port })).to.equal(text);
    });
  }

  for (const text of [
    '',
    '50051',
    ':50051',
    'localhost',
    'localhost:',
    '::1:50051',
    '[::1]',
    'a:65536',
    'a:-1',
    'a b:1',
    'http://a:1',
    '[x]:1',
  ]) {
    it(`is not read from "${text}"`, () => {
      expect(() => parseAddress(text)).to.throw(RangeError, `"${text}" is not an address`);
    });
  }
});
