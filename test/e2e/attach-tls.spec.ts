// Block access over TLS: clients show certificates, which may name whom they are; without one nothing is told.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { type Authority, makeAuthority } from '../support/certificates.ts';
import { ObrazClient } from '../support/client.ts';
import { requireQemuImg } from '../support/images.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { Obraz } from '../support/obraz.ts';
import { removeDataFolder, type TestDatabase, testDatabase } from '../support/postgres.ts';

const run = promisify(execFile);

describe('block access over TLS', function () {
  this.timeout(120_000);
  let database: TestDatabase;
  let folder: string;
  let dataDirectory: string;
  let obraz: Obraz;
  let client: ObrazClient;
  let authority: Authority;
  let address: string;
  let adminId: string;

  before(async function () {
    requireQemuImg(this);
    database = await testDatabase();
    folder = await mkdtemp(path.join(tmpdir(), 'obraz-tls-'));
    dataDirectory = path.join(folder, 'data');
    authority = makeAuthority();
    await writeFile(path.join(folder, 'clients.pem'), authority.pem);
    // Not loopback: every address of the machine.
    obraz = await Obraz.start({
      dataDirectory,
      environment: {
        DATABASE_URL: database.url,
        OBRAZ_NBD_ADDRESS: '0.0.0.0:0',
        OBRAZ_NBD_CLIENT_CA_FILE: path.join(folder, 'clients.pem'),
      },
    });
    client = await ObrazClient.of(obraz);
    const { addresses, service_account_id: id } = await obraz.bootstrap();
    address = addresses.nbd!.replace('0.0.0.0', '127.0.0.1');
    adminId = id;
  });

  after(async () => {
    client?.[Symbol.dispose]();
    await obraz?.[Symbol.asyncDispose]();
    await removeDataFolder(dataDirectory);
    await rm(folder, { recursive: true, force: true });
    await database?.dispose();
  });

  /** A QEMU client's folder of certificates. @returns its exit status and what it said. */
  async function qemuInfo(exportName: string, commonName: string, by = authority): Promise<{ ok: boolean; said: string }> {
    const dir = await mkdtemp(path.join(folder, 'client-'));
    const { cert, key } = by.issue([], undefined, [commonName]);
    await mkdir(dir, { recursive: true });
    // QEMU wants to know the authority of its own certificate, too.
    await writeFile(path.join(dir, 'ca-cert.pem'), `${(await obraz.ca()).toString()}${by.pem}`);
    await writeFile(path.join(dir, 'client-cert.pem'), cert);
    await writeFile(path.join(dir, 'client-key.pem'), key);
    const port = address.slice(address.lastIndexOf(':') + 1);
    try {
      const { stdout } = await run(
        'qemu-img',
        [
          'info',
          '--object',
          `tls-creds-x509,id=tls,endpoint=client,dir=${dir}`,
          '--image-opts',
          `driver=nbd,host=127.0.0.1,port=${port},export=${exportName},tls-creds=tls`,
        ],
        { timeout: 60_000 },
      );
      return { ok: true, said: stdout };
    } catch (error) {
      return { ok: false, said: (error as { stderr?: string }).stderr ?? String(error) };
    }
  }

  it('lets a client in by its certificate, as the service account that it names or with a ticket', async () => {
    const disk = await client.disk();
    const known = await qemuInfo(disk.id, adminId);
    expect(known.ok, known.said).to.equal(true);
    expect(await qemuInfo(disk.id, 'aje00000000000000000'))
      .to.have.property('said')
      .that.contains('Token is invalid');
    const { ticket, uris } = await client.createTicket(disk.id);
    expect(uris.at(-1)).to.match(/^nbds:\/\//);
    const shown = await qemuInfo(ticket, 'a machine');
    expect(shown.ok, shown.said).to.equal(true);
  });

  it('lets nobody in with a certificate of another authority, or without TLS', async () => {
    const disk = await client.disk();
    expect(await qemuInfo(disk.id, adminId, makeAuthority())).to.deep.include({ ok: false });
    using plain = await NbdClient.greeted(address);
    const tlsRequired = 0x8000_0005;
    expect((await plain.option(3)).at(-1)?.reply).to.equal(tlsRequired);
    expect(await NbdClient.opened(address, disk.id).catch((error: Error) => error.message)).to.contain('GO was refused');
  });
});
