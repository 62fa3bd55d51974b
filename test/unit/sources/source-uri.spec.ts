import { expect } from 'chai';
import * as fc from 'fast-check';
import { DomainError } from '../../../src/platform/errors.ts';
import { describeUrl, maskUri, parseSourceUri } from '../../../src/sources/source-uri.ts';

const sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

describe('source URI', () => {
  const accepted: [uri: string, protocol: string, hostname: string, port: number, path: string][] = [
    ['http://example.com/a.qcow2', 'http:', 'example.com', 80, '/a.qcow2'],
    ['https://example.com', 'https:', 'example.com', 443, '/'],
    ['https://example.com?x=1', 'https:', 'example.com', 443, '/?x=1'],
    ['HTTPS://EXAMPLE.com:8443/A?B=c', 'https:', 'example.com', 8443, '/A?B=c'],
    ['http://example.com./x', 'http:', 'example.com', 80, '/x'],
    ['http://образ.рф/диск.img', 'http:', 'xn--80abtzl.xn--p1ai', 80, '/%D0%B4%D0%B8%D1%81%D0%BA.img'],
    ['http://my_bucket.s3.local/x', 'http:', 'my_bucket.s3.local', 80, '/x'],
    ['http://203.0.113.9:81/x', 'http:', '203.0.113.9', 81, '/x'],
    ['http://[2001:DB8:0::1]:81/x', 'http:', '2001:db8::1', 81, '/x'],
    ['http://example.com:00080/x', 'http:', 'example.com', 80, '/x'],
    ['http://example.com/a/../b?sig=a%2Fb+c==', 'http:', 'example.com', 80, '/b?sig=a%2Fb+c=='],
  ];
  for (const [uri, protocol, hostname, port, path] of accepted) {
    it(`reads ${uri}`, () => {
      const { url, digest } = parseSourceUri(uri);
      expect(url).to.include({ protocol, hostname, port, path });
      expect(digest).to.equal(undefined);
    });
  }

  const refused: [uri: string, text: RegExp][] = [
    ['', /must be a URL such as/],
    ['disk.img', /must be a URL such as/],
    ['/etc/passwd', /must be a URL such as/],
    ['file:///etc/passwd', /scheme "file" is not supported; use http or https/],
    ['ftp://example.com/x', /scheme "ftp"/],
    ['json:{"driver":"file"}', /scheme "json"/],
    ['http:example.com/x', /names no host/],
    ['http:/example.com/x', /names no host/],
    ['http:///x', /names no host/],
    ['http://:80/x', /names no host/],
    ['http://[]/x', /names no host/],
    ['http://user@example.com/x', /must not hold a user name or password/],
    ['http://user:pass@example.com/x', /must not hold a user name or password/],
    ['http://example.com@127.0.0.1/x', /must not hold a user name or password/],
    ['http://example.com\\@127.0.0.1/x', /backslashes/],
    ['http://exa mple.com/x', /spaces/],
    [' http://example.com/x', /spaces/],
    ['http://example.com/x\r\nHost: y', /control characters/],
    ['http://exam\tple.com/x', /control characters/],
    ['http://2130706433/x', /"2130706433" is a number/],
    ['http://0x7f000001/x', /"0x7f000001" is a number/],
    ['http://0177.0.0.1/x', /"0177.0.0.1" is a number/],
    ['http://127.1/x', /"127.1" is a number/],
    ['http://127.0.0.1./x', /is a number/],
    ['http://１２７.0.0.1/x', /is a number/],
    ['http://127。0。0。1/x', /is a number/],
    ['http://256.0.0.1/x', /is not valid/],
    ['http://1.2.3.4.5/x', /is not valid/],
    ['http://%31%32%37.0.0.1/x', /must not hold "%"/],
    ['http://[fe80::1%25eth0]/x', /must not hold "%"/],
    ['http://[fe80::1%eth0]/x', /must not hold "%"/],
    ['http://[::1/x', /is not valid/],
    ['http://::1/x', /is not valid; write an IPv6 address in brackets/],
    ['http://[v1.a]/x', /is not valid/],
    ['http://example.com../x', /is not valid/],
    ['http://.example.com/x', /is not valid/],
    ['http://-a.example.com/x', /is not valid/],
    ['http://a,b/x', /is not valid/],
    [`http://${'a'.repeat(64)}.com/x`, /is not valid/],
    ['http://example.com:0/x', /port "0" is not a number from 1 to 65535/],
    ['http://example.com:65536/x', /port "65536"/],
    ['http://example.com:/x', /port ""/],
    ['http://example.com:8o/x', /port "8o"/],
    ['http://example.com:-1/x', /port "-1"/],
    [`http://example.com/${'a'.repeat(9000)}`, /characters long; 8192 are allowed/],
    ['http://example.com/x#part', /fragment is not supported; only #sha256=<hex>/],
    ['http://example.com/x#md5=00', /fragment is not supported/],
    ['http://example.com/x#sha256=abc', /sha256 digest has 3 hexadecimal digits; it needs 64/],
    [`http://example.com/x#sha512=${sha256}`, /sha512 digest has 64 hexadecimal digits; it needs 128/],
    ['http://example.com/x#sha256=xyz', /fragment is not supported/],
  ];
  for (const [uri, text] of refused) {
    it(`refuses ${uri.slice(0, 60)}`, () => {
      expect(() => parseSourceUri(uri))
        .to.throw(DomainError, text)
        .with.property('code', 'INVALID_ARGUMENT');
    });
  }

  it('reads a digest in any case, and takes an empty fragment for none', () => {
    expect(parseSourceUri(`http://example.com/x#SHA256=${sha256.toUpperCase()}`).digest).to.deep.equal({
      algorithm: 'sha256',
      hex: sha256,
    });
    expect(parseSourceUri('http://example.com/x#').digest).to.equal(undefined);
  });

  it('never repeats the query in an error', () => {
    fc.assert(
      fc.property(fc.constantFrom(...refused.map(([uri]) => uri)), (uri) => {
        const secret = 'SECRETSIGNATURE';
        const [place = '', fragment] = uri.split('#');
        const withQuery = `${place}?X-Amz-Signature=${secret}${fragment === undefined ? '' : `#${fragment}`}`;
        try {
          parseSourceUri(withQuery);
        } catch (error) {
          expect((error as Error).message).not.to.contain(secret);
        }
      }),
    );
  });

  it('either refuses any text, or reads it as the URL standard does', () => {
    fc.assert(
      fc.property(fc.oneof(fc.webUrl({ withQueryParameters: true }), fc.string()), (text) => {
        let parsed;
        try {
          parsed = parseSourceUri(text);
        } catch (error) {
          expect(error).to.be.instanceOf(DomainError);
          return;
        }
        const standard = new URL(text);
        const host = parsed.url.addressFamily === 6 ? `[${parsed.url.hostname}]` : parsed.url.hostname;
        expect(standard.hostname.replace(/\.$/, '')).to.equal(host);
        expect(`${standard.pathname}${standard.search}`).to.equal(parsed.url.path);
      }),
    );
  });
});

describe('maskUri', () => {
  const table: [uri: string, masked: string][] = [
    ['https://h/p', 'https://h/p'],
    ['https://h/p?X-Amz-Signature=abc&x=', 'https://h/p?X-Amz-Signature=XXXXXX&x=XXXXXX'],
    ['https://h/p?token', 'https://h/p?XXXXXX'],
    ['https://h/p?a=b=c?d', 'https://h/p?a=XXXXXX'],
    ['https://user:pa@ss@h/p', 'https://XXXXXX@h/p'],
    ['//user:pass@h/p', '//XXXXXX@h/p'],
    ['https:user:pass@h/p', 'https:XXXXXX@h/p'],
    [`https://h/p?a=1#sha256=${sha256}`, `https://h/p?a=XXXXXX#sha256=${sha256}`],
    ['https://h/p#access_token=1', 'https://h/p#XXXXXX'],
    ['no URL at all ? secret', 'no URL at all ?XXXXXX'],
    ['', ''],
  ];
  for (const [uri, masked] of table) it(`shows ${uri} as ${masked}`, () => expect(maskUri(uri)).to.equal(masked));

  it('leaves no value of a query and no password', () => {
    const word = fc.stringMatching(/^[A-Za-z0-9]{8,20}$/);
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 4 }), word, (values, password) => {
        const query = values.map((value, index) => `key${index}=zz${value}`).join('&');
        const masked = maskUri(`https://u:zz${password}@host/path?${query}#zz${password}`);
        expect(masked).not.to.contain('zz');
      }),
    );
  });
});

describe('describeUrl', () => {
  it('leaves the query out, and standard ports', () => {
    expect(describeUrl(parseSourceUri('https://h:443/p?sig=1').url)).to.equal('https://h/p');
    expect(describeUrl(parseSourceUri('http://[::1]:443/?sig=1').url)).to.equal('http://[::1]:443/');
  });

  it('shortens a long path', () => {
    expect(describeUrl(parseSourceUri(`http://h/${'a'.repeat(500)}`).url).length).to.be.lessThan(220);
  });
});
