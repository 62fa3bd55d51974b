import { access, constants, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { makeAuthority } from '../support/certificates.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { TestNbdServer, until } from '../support/nbd-server.ts';
import { answerOf, requireTool, run } from '../support/tools.ts';
import { describeNbdClients } from './nbd-clients.contract.ts';

const MiB = 1024 * 1024;
const sizeBytes = 24 * MiB;

async function open(readsNow: boolean, overTcp: boolean) {
  const server = await TestNbdServer.start({ disk: new MemoryDevice(Buffer.alloc(sizeBytes), { readsNow }) });
  return {
    uri: overTcp ? server.tcpUri('disk') : server.uri('disk'),
    sizeBytes,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

describeNbdClients('a device in memory that reads at once, over a Unix socket', () => open(true, false));
describeNbdClients('a device in memory that reads later, over TCP', () => open(false, true));

describe('Real clients of a read-only NBD export', () => {
  let server: TestNbdServer;
  let device: MemoryDevice;
  before(async () => {
    const bytes = Buffer.alloc(sizeBytes);
    for (let at = 4 * MiB; at < 20 * MiB; at += 4) bytes.writeUInt32LE(at, at);
    device = new MemoryDevice(bytes, { readOnly: true });
    server = await TestNbdServer.start({ image: device, other: device });
  });
  after(() => server[Symbol.asyncDispose]());

  it('see that it is one, in a list with others', async function () {
    requireTool(this, 'nbdinfo', 'libnbd-bin');
    const uri = `nbd+unix://?socket=${server.socketPath}`;
    const { exports } = JSON.parse(await run('nbdinfo', '--list', '--json', uri)) as { exports: Record<string, unknown>[] };
    expect(exports.map((info) => [info['export-name'], info['description']])).to.deep.equal([
      ['image', 'the export image'],
      ['other', 'the export other'],
    ]);
    expect(exports[0]).to.include({ is_read_only: true, can_multi_conn: true, can_trim: false, can_zero: false });
    expect((await answerOf('nbdinfo', server.uri('none'))).stderr).to.contain('server replied with error to opt_go');
  });

  it('list it by the first of all clients', async function () {
    requireTool(this, 'nbd-client', 'nbd-client', '-V');
    const [host, port] = server.tcpAddress.split(':') as [string, string];
    expect(await run('nbd-client', '-l', host, port)).to.match(/^image: the export image$/m);
  });

  it('list it and say what it can do', async function () {
    requireTool(this, 'qemu-nbd', 'qemu-utils');
    const said = await run('qemu-nbd', '-L', '-k', server.socketPath);
    expect(said).to.match(/export: 'image'/);
    expect(said).to.match(/base:allocation/);
  });

  it('copy it over many connections', async function () {
    requireTool(this, 'nbdcopy', 'libnbd-bin');
    const directory = await mkdtemp(path.join(tmpdir(), 'obraz-nbd-copy-'));
    const before = device.opens;
    await run('nbdcopy', '--connections=4', '--threads=4', server.tcpUri('image'), path.join(directory, 'copy'));
    expect(device.opens - before).to.equal(4);
    await writeFile(path.join(directory, 'wanted'), device.bytes);
    await run('cmp', path.join(directory, 'copy'), path.join(directory, 'wanted'));
    await rm(directory, { recursive: true });
    await until(() => device.disposals === device.opens);
  });

  it('cannot write it', async function () {
    requireTool(this, 'qemu-io', 'qemu-utils');
    const { code, stderr, stdout } = await answerOf('qemu-io', '-f', 'raw', '-c', 'write 0 512', server.uri('image'));
    expect(code).to.not.equal(0);
    expect(stderr + stdout).to.match(/read-only|Permission denied|not permitted/i);
    expect(await run('qemu-io', '-r', '-f', 'raw', '-c', 'read -P 0 0 4M', server.uri('image'))).to.not.contain('failed');
  });
});

describe('Real NBD clients with TLS', () => {
  const authority = makeAuthority();
  const { cert, key } = authority.issue(['localhost', '127.0.0.1']);
  let server: TestNbdServer;
  let directory: string;
  before(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'obraz-nbd-tls-'));
    server = await TestNbdServer.start(
      { disk: new MemoryDevice(Buffer.alloc(sizeBytes, 'tls')) },
      { tls: { certificate: cert, key, clientAuthority: authority.pem } },
    );
    const client = authority.issue([], undefined, ['aje-client']);
    await writeFile(path.join(directory, 'ca-cert.pem'), authority.pem);
    await writeFile(path.join(directory, 'client-cert.pem'), client.cert);
    await writeFile(path.join(directory, 'client-key.pem'), client.key);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  it('read and write: QEMU', async function () {
    requireTool(this, 'qemu-io', 'qemu-utils');
    const [host, port] = server.tcpAddress.split(':') as [string, string];
    const options = `driver=raw,file.driver=nbd,file.host=${host},file.port=${port},file.export=disk,file.tls-creds=tls0`;
    const credentials = `tls-creds-x509,id=tls0,endpoint=client,dir=${directory}`;
    const commands = ['-c', 'write -P 9 1M 3M', '-c', 'read -P 9 1M 3M', '-c', 'flush'];
    expect(await run('qemu-io', '--object', credentials, ...commands, '--image-opts', options)).to.not.contain('failed');
    expect(server.exports.peers.at(-1)).to.include({ isTls: true, certificateSubject: 'aje-client' });
    const plain = await answerOf('qemu-img', 'info', server.tcpUri('disk'));
    expect(plain.stderr).to.contain('STARTTLS');
  });

  it('read and write: libnbd, over TCP and a Unix socket', async function () {
    requireTool(this, 'nbdsh', 'python3-libnbd', '-c', 'assert h.supports_tls()');
    const [host, port] = server.tcpAddress.split(':') as [string, string];
    for (const connect of [`h.connect_tcp('${host}', '${port}')`, `h.connect_unix('${server.socketPath}')`]) {
      await run(
        'nbdsh',
        '-c',
        `
h.set_tls(nbd.TLS_REQUIRE)
h.set_tls_certificates('${directory}')
h.set_export_name('disk')
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
${connect.includes('unix') ? 'h.set_tls_verify_peer(False)' : ''}
${connect}
import os
data = os.urandom(5000000)
h.pwrite(data, 77)
assert h.pread(5000000, 77) == data
assert h.get_tls_negotiated() and h.get_structured_replies_negotiated()
`,
      );
    }
  });
});

describe('The Linux kernel as an NBD client', () => {
  it('attaches a disk', async function () {
    requireTool(this, 'nbd-client', 'nbd-client', '-V');
    const isThere = await access('/dev/nbd0', constants.R_OK | constants.W_OK).then(
      () => true,
      () => false,
    );
    if (!isThere) {
      console.warn('SKIPPED: there is no /dev/nbd0 that we may use (the kernel module nbd, and root)');
      this.skip();
    }
    await using server = await TestNbdServer.start({ disk: new MemoryDevice(Buffer.alloc(sizeBytes)) });
    const [host, port] = server.tcpAddress.split(':') as [string, string];
    await run('nbd-client', '-N', 'disk', host, port, '/dev/nbd0');
    try {
      await run('dd', 'if=/dev/urandom', 'of=/dev/nbd0', 'bs=1M', 'count=8', 'oflag=direct', 'conv=fsync');
      await run('blkdiscard', '/dev/nbd0');
      expect(server.server.counters.writtenBytes).to.equal(8 * MiB);
      expect(server.server.counters.flushes).to.be.above(0);
    } finally {
      await run('nbd-client', '-d', '/dev/nbd0');
    }
  });
});
