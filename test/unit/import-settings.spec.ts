import { expect } from 'chai';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { readConfig } from '../../src/config.ts';
import { readAuthorities, readImportRules, readProxyRules } from '../../src/import-settings.ts';
import { StartError } from '../../src/platform/start-error.ts';
import { makeAuthority } from '../support/certificates.ts';

describe('the settings of imports', () => {
  let folder: string;
  before(async () => (folder = await mkdtemp(path.join(tmpdir(), 'obraz-settings-'))));
  after(() => rm(folder, { recursive: true }));

  const authorities = async (text: string): Promise<string | undefined> => {
    const file = path.join(folder, 'ca.pem');
    await writeFile(file, text);
    return readAuthorities(readConfig({ OBRAZ_IMPORT_CA_FILE: file }));
  };

  it('take the certificates of a file, and leave what is said around them', async () => {
    const [one, other] = [makeAuthority().pem, makeAuthority().pem];
    expect(await authorities(`Ours\r\n${one}\n# and\n${other}`)).to.equal(one + other);
    expect(await readAuthorities(readConfig({}))).to.equal(undefined);
  });

  it('refuse a file without a certificate, or with a broken one, at the start', async () => {
    const broken = makeAuthority().pem.replace(/^(?!-)./gm, 'A');
    for (const text of ['', 'no certificate', broken]) {
      const error = await authorities(text).catch((reason: unknown) => reason);
      expect(error)
        .to.be.instanceOf(StartError)
        .with.property('message')
        .that.matches(/^OBRAZ_IMPORT_CA_FILE: /);
    }
    const missing = readAuthorities(readConfig({ OBRAZ_IMPORT_CA_FILE: path.join(folder, 'missing.pem') }));
    expect(await missing.catch((reason: unknown) => reason)).to.be.instanceOf(StartError);
  });

  it('name what is wrong', () => {
    expect(() => readImportRules(readConfig({ OBRAZ_IMPORT_ALLOW: '10.0.0.1/8' }))).to.throw(StartError, /^OBRAZ_IMPORT_ALLOW: /);
    expect(() => readProxyRules(readConfig({ HTTPS_PROXY: 'socks5://proxy' }))).to.throw(StartError, /^HTTPS_PROXY: /);
  });

  it('never lead to this machine by a proxy', () => {
    const rules = readProxyRules(readConfig({ HTTPS_PROXY: 'proxy:3128', NO_PROXY: 'a.example' }));
    expect(rules?.exceptions).to.include.members(['a.example', 'localhost', '127.0.0.0/8', '::1']);
    expect(readProxyRules(readConfig({ NO_PROXY: 'x' }))).to.equal(undefined);
  });
});
