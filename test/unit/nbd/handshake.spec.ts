// The handshake as strangers hold it: what a real client never says.
import { expect } from 'chai';
import { connect as connectTls } from 'node:tls';
import { type ExportProvider, ExportRefused } from '../../../src/nbd/export-provider.ts';
import { makeAuthority } from '../../support/certificates.ts';
import { MemoryDevice, MemoryExports } from '../../support/memory-device.ts';
import {
  NbdClient,
  type OptionAnswer,
  contextQueries,
  infoRequest,
  optionMessage,
  request,
  uint32,
} from '../../support/nbd-client.ts';
import { TestNbdServer, until } from '../../support/nbd-server.ts';

const ack = 1;
const errors = { unsupported: 0x8000_0001, policy: 0x8000_0002, invalid: 0x8000_0003, tls: 0x8000_0005, unknown: 0x8000_0006 };
const disk = (): MemoryDevice => new MemoryDevice(Buffer.alloc(1024 * 1024, 'disk'));

describe('The NBD handshake', () => {
  let server: TestNbdServer;
  before(async () => {
    server = await TestNbdServer.start({ disk: disk() });
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    expect(server.errors).to.deep.equal([]);
  });

  const lastOf = (answers: OptionAnswer[]): string => {
    const { reply, data } = answers.at(-1)!;
    return `${reply.toString(16)} ${data.toString()}`.trim();
  };

  it('answers unknown options and goes on', async () => {
    using client = await NbdClient.greeted(server.tcpAddress);
    for (const option of [4, 11, 0, 0xffff_ffff]) {
      expect((await client.option(option, Buffer.alloc(100))).at(-1)!.reply).to.equal(errors.unsupported);
    }
    const answers = await client.option(7, infoRequest('disk'));
    expect(answers.at(-1)!.reply).to.equal(ack);
    client.send(request('read', { length: 8 }));
    expect((await client.simpleReply(8)).data.toString()).to.equal('diskdisk');
  });

  it('asks a client nothing more that does not read what it asked for, until it does', async () => {
    const exports = new MemoryExports({ disk: disk() });
    const [listed] = await exports.list();
    const many = Array.from({ length: 500 }, () => ({ ...listed!, description: 'd'.repeat(4000) }));
    let lists = 0;
    const provider: ExportProvider = {
      list: async () => {
        lists += 1;
        return many;
      },
      info: exports.info.bind(exports),
      open: exports.open.bind(exports),
    };
    await using own = await TestNbdServer.start({}, { provider });
    using client = await NbdClient.greeted(own.socketPath);
    client.socket.pause();
    const asked = 12;
    client.send(...Array.from({ length: asked }, () => optionMessage(3)));
    await until(() => lists > 0);
    // Without a bound all would be answered by now, into memory.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(lists).to.be.at.most(3);
    client.socket.resume();
    await until(() => lists === asked);
  });

  it('gives the information that is asked for', async () => {
    using client = await NbdClient.greeted(server.socketPath);
    const infos = async (...wanted: number[]): Promise<string[]> =>
      (await client.option(6, infoRequest('disk', ...wanted))).map(({ data }) => data.toString('hex', 0, 2));
    expect(await infos()).to.deep.equal(['0000', '']);
    expect(await infos(0, 1, 2, 3, 99)).to.deep.equal(['0000', '0003', '0001', '0002', '']);
  });

  it('refuses what is malformed, and goes on', async () => {
    using client = await NbdClient.greeted(server.tcpAddress);
    const malformed: [number, Buffer][] = [
      [3, Buffer.alloc(1)],
      [5, Buffer.alloc(1)],
      [6, Buffer.alloc(0)],
      [7, Buffer.from('ffffffff', 'hex')],
      [8, Buffer.alloc(1)],
      [9, Buffer.alloc(3)],
      [10, contextQueries('disk', 'base:allocation')],
      [6, infoRequest('x'.repeat(5000))],
    ];
    for (const [option, data] of malformed) {
      expect((await client.option(option, data)).at(-1)!.reply, `option ${option}`).to.equal(errors.invalid);
    }
    expect(lastOf(await client.option(6, infoRequest('none')))).to.equal('80000006 there is no export of that name');
    expect(lastOf(await client.option(7, infoRequest('none')))).to.equal('80000006 there is no export of that name');
    expect(lastOf(await client.option(7, infoRequest('disk')))).to.equal('1');
  });

  it('skips data that is too long, and refuses it', async () => {
    using client = await NbdClient.greeted(server.tcpAddress);
    expect(lastOf(await client.option(6, Buffer.alloc(64 * 1024 + 1)))).to.equal('80000009 an option has at most 65536 bytes');
    expect(lastOf(await client.option(6, Buffer.alloc(1024 * 1024)))).to.equal('80000009 an option has at most 65536 bytes');
    expect(lastOf(await client.option(8))).to.equal('1');
  });

  it('lists contexts for every question that names base', async () => {
    using client = await NbdClient.greeted(server.tcpAddress);
    const names = async (...queries: string[]): Promise<string[]> =>
      (await client.option(9, contextQueries('disk', ...queries))).slice(0, -1).map(({ data }) => data.toString('latin1', 4));
    expect(await names()).to.deep.equal(['base:allocation']);
    expect(await names('base:')).to.deep.equal(['base:allocation']);
    expect(await names('qemu:', 'base:allocation')).to.deep.equal(['base:allocation']);
    expect(await names('qemu:', 'base:other')).to.deep.equal([]);
  });

  it('gives block status for the export whose context was selected last, and no other', async () => {
    const tries: [string, [string, ...string[]][], number][] = [
      ['selected', [['disk', 'base:allocation']], 5],
      ['of another export', [['other', 'base:allocation']], 0x8001],
      ['selected and given up', [['disk', 'base:allocation'], ['disk']], 0x8001],
      ['asked with a wildcard', [['disk', 'base:']], 0x8001],
    ];
    for (const [what, selections, type] of tries) {
      using client = await NbdClient.greeted(server.tcpAddress);
      await client.option(8);
      for (const [name, ...queries] of selections) await client.option(10, contextQueries(name, ...queries));
      await client.option(7, infoRequest('disk'));
      client.send(request('blockStatus', { length: 4096 }));
      expect((await client.chunk()).type, what).to.equal(type);
    }
  });

  it('closes after ABORT, which it answers', async () => {
    using client = await NbdClient.greeted(server.tcpAddress);
    expect(lastOf(await client.option(2, Buffer.from('bye')))).to.equal('1');
    expect(await client.closed()).to.have.length(0);
  });

  it('opens by EXPORT_NAME, with zeros for old clients', async () => {
    for (const [flags, zeros] of [
      [0, 124],
      [1, 124],
      [2, 0],
      [3, 0],
    ] as const) {
      using client = await NbdClient.greeted(server.tcpAddress, flags);
      client.send(optionMessage(1, Buffer.from('disk')));
      expect((await client.take(10 + zeros)).toString('hex', 0, 10)).to.equal('0000000000100000086d');
      client.send(request('read', { length: 4 }), request('disconnect'));
      expect((await client.simpleReply(4)).data.toString()).to.equal('disk');
      expect(await client.closed()).to.have.length(0);
    }
  });

  const violations: [string, (client: NbdClient) => void][] = [
    ['garbage', (client) => client.send(Buffer.alloc(4096, 0x5a))],
    ['flags that were not offered', (client) => client.send(uint32(4))],
    ['HTTP', (client) => client.send(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'))],
    ['an option without its magic number', (client) => client.send(uint32(3), Buffer.alloc(16, 1))],
    ['an option of 4 GiB', (client) => client.send(uint32(3), optionMessage(6, Buffer.alloc(0), 0xffff_ffff))],
    ['an export name of 1 MiB', (client) => client.send(uint32(3), optionMessage(1, Buffer.alloc(0), 0x10_0000))],
    ['an export name with a NUL', (client) => client.send(uint32(3), optionMessage(1, Buffer.from('d\0')))],
    ['an unknown export name', (client) => client.send(uint32(3), optionMessage(1, Buffer.from('none')))],
    ['an option without fixed newstyle', (client) => client.send(uint32(0), optionMessage(3))],
  ];
  for (const [what, say] of violations) {
    it(`closes on ${what}`, async () => {
      using client = await NbdClient.connect(server.tcpAddress);
      await client.take(18);
      say(client);
      expect(await client.closed()).to.have.length(0);
    });
  }

  it('closes after 256 options', async () => {
    using client = await NbdClient.greeted(server.socketPath);
    client.send(...Array.from({ length: 300 }, () => optionMessage(8)));
    expect(await client.closed()).to.have.length(256 * 20);
  });

  it('survives clients that leave at any byte', async () => {
    const all = Buffer.concat([uint32(3), optionMessage(8), optionMessage(3), optionMessage(7, infoRequest('disk', 3))]);
    for (let length = 0; length <= all.length; length += 3) {
      using client = await NbdClient.connect(server.socketPath);
      client.socket.end(all.subarray(0, length));
      await client.closed();
    }
    await until(() => server.server.connectionCount === 0);
    const { opens, disposals } = server.exports.devices.get('disk')!;
    expect(disposals).to.equal(opens);
  });

  it('gives every client its time and no more, however it trickles', async () => {
    await using slow = await TestNbdServer.start({ disk: disk() }, { limits: { handshakeMs: 300 } });
    using silent = await NbdClient.connect(slow.tcpAddress);
    using trickling = await NbdClient.greeted(slow.tcpAddress);
    const timer = setInterval(() => trickling.send(Buffer.from('I')), 20);
    using opened = await NbdClient.opened(slow.tcpAddress, 'disk');
    await Promise.all([silent.closed(), trickling.closed()]);
    clearInterval(timer);
    opened.send(request('read', { length: 4 }));
    expect((await opened.simpleReply(4)).data.toString()).to.equal('disk');
  });

  it('refuses more connections than it is given, and more that have opened nothing', async () => {
    await using small = await TestNbdServer.start({ disk: disk() }, { limits: { maxConnections: 4, maxHandshakes: 2 } });
    using first = await NbdClient.opened(small.tcpAddress, 'disk');
    using second = await NbdClient.opened(small.socketPath, 'disk');
    using third = await NbdClient.greeted(small.tcpAddress);
    const fourth = await NbdClient.greeted(small.tcpAddress);
    {
      using fifth = await NbdClient.connect(small.tcpAddress);
      expect(await fifth.closed()).to.have.length(0);
    }
    fourth[Symbol.dispose]();
    await until(() => small.server.connectionCount === 3);
    using sixth = await NbdClient.opened(small.tcpAddress, 'disk');
    {
      using seventh = await NbdClient.connect(small.tcpAddress);
      expect(await seventh.closed()).to.have.length(0);
    }
    for (const client of [first, second, sixth]) {
      client.send(request('read', { length: 4 }));
      expect((await client.simpleReply(4)).error).to.equal(0);
    }
    await third.option(2);
  });

  it('closes again what was opened for a client that has left', async () => {
    const device = disk();
    const opening = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<AbortSignal>();
    class Slow extends MemoryExports {
      override async open(...[name, peer, signal]: [string, never, AbortSignal?]): Promise<MemoryDevice> {
        asked.resolve(signal!);
        await opening.promise;
        return (await super.open(name, peer)) as MemoryDevice;
      }
    }
    await using slow = await TestNbdServer.start({}, { provider: new Slow({ disk: device }) });
    const client = await NbdClient.greeted(slow.tcpAddress);
    client.send(optionMessage(7, infoRequest('disk')));
    const signal = await asked.promise;
    client[Symbol.dispose]();
    await until(() => signal.aborted);
    opening.resolve();
    await until(() => device.disposals === 1);
    expect(slow.errors).to.deep.equal([]);
  });

  it('tells its owner, and not the client, why an export could not be opened', async () => {
    class Broken extends MemoryExports {
      override async open(name: string): Promise<MemoryDevice> {
        if (name === 'busy') throw new ExportRefused('POLICY', 'it has a writer since Monday');
        throw new Error('a secret of ours');
      }
      override async list(): Promise<never[]> {
        throw new ExportRefused('SHUTDOWN', 'come back later');
      }
    }
    await using broken = await TestNbdServer.start({}, { provider: new Broken({}) });
    using client = await NbdClient.greeted(broken.tcpAddress);
    expect(lastOf(await client.option(7, infoRequest('busy')))).to.equal('80000002 it has a writer since Monday');
    expect(lastOf(await client.option(3))).to.equal('80000007 come back later');
    expect(lastOf(await client.option(7, infoRequest('x')))).to.equal('80000006 the server could not open it');
    expect(broken.errors.map(String)).to.deep.equal(['Error: a secret of ours']);
    using old = await NbdClient.greeted(broken.tcpAddress);
    old.send(optionMessage(1, Buffer.from('busy')));
    expect(await old.closed()).to.have.length(0);
  });
});

describe('TLS in the NBD handshake', () => {
  const authority = makeAuthority();
  const { cert, key } = authority.issue(['localhost', '127.0.0.1']);
  const tls = { certificate: cert, key };
  const withClients = { ...tls, clientAuthority: authority.pem };

  /** Upgrades as a client does after the server's ACK. */
  async function secured(client: NbdClient, certificate: { cert?: string; key?: string } = {}): Promise<NbdClient> {
    expect((await client.option(5)).at(-1)!.reply).to.equal(ack);
    client.socket.removeAllListeners('data');
    const socket = connectTls({ socket: client.socket, ca: authority.pem, servername: 'localhost', ...certificate });
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
    });
    return new NbdClient(socket);
  }

  it('comes before everything else where it is required', async () => {
    await using server = await TestNbdServer.start({ disk: disk() }, { tls });
    using client = await NbdClient.greeted(server.tcpAddress);
    for (const [option, data] of [
      [3, Buffer.alloc(0)],
      [6, infoRequest('disk')],
      [7, infoRequest('disk')],
      [8, Buffer.alloc(0)],
      [9, contextQueries('disk')],
      [77, Buffer.alloc(0)],
    ] as const) {
      expect((await client.option(option, data)).at(-1)!.reply, `option ${option}`).to.equal(errors.tls);
    }
    using secure = await secured(client);
    expect((await secure.option(5)).at(-1)!.reply).to.equal(errors.invalid);
    expect((await secure.option(7, infoRequest('disk'))).at(-1)!.reply).to.equal(ack);
    secure.send(request('read', { length: 4 }));
    expect((await secure.simpleReply(4)).data.toString()).to.equal('disk');
    expect(server.exports.peers.at(-1)).to.include({ isTls: true, isUnixSocket: false, certificateSubject: undefined });
  });

  it('ends the connection of EXPORT_NAME without it, and answers ABORT', async () => {
    await using server = await TestNbdServer.start({ disk: disk() }, { tls });
    using old = await NbdClient.greeted(server.tcpAddress);
    old.send(optionMessage(1, Buffer.from('disk')));
    expect(await old.closed()).to.have.length(0);
    using leaving = await NbdClient.greeted(server.tcpAddress);
    expect((await leaving.option(2)).at(-1)!.reply).to.equal(ack);
  });

  it('forgets what was agreed on before it', async () => {
    await using server = await TestNbdServer.start(
      { disk: disk() },
      { tls, endpoints: [{ address: '127.0.0.1:0', tls: 'offered' }] },
    );
    using client = await NbdClient.greeted(server.server.addresses[0]!);
    expect((await client.option(8)).at(-1)!.reply).to.equal(ack);
    await client.option(10, contextQueries('disk', 'base:allocation'));
    using secure = await secured(client);
    expect((await secure.option(10, contextQueries('disk', 'base:allocation'))).at(-1)!.reply).to.equal(errors.invalid);
    await secure.option(7, infoRequest('disk'));
    secure.send(request('read', { length: 4 }));
    expect((await secure.simpleReply(4)).data.toString()).to.equal('disk');
  });

  it('does not take words that were smuggled in before it', async () => {
    await using server = await TestNbdServer.start({ disk: disk() }, { tls });
    using client = await NbdClient.greeted(server.tcpAddress);
    client.send(optionMessage(5), optionMessage(7, infoRequest('disk')));
    expect((await client.closed()).length).to.be.at.most(20);
    expect(server.exports.peers).to.deep.equal([]);
  });

  it('is declined where there is none', async () => {
    await using server = await TestNbdServer.start({ disk: disk() });
    using client = await NbdClient.greeted(server.tcpAddress);
    expect((await client.option(5)).at(-1)!.reply).to.equal(errors.policy);
    expect((await client.option(7, infoRequest('disk'))).at(-1)!.reply).to.equal(ack);
  });

  it('ends with whoever speaks something else', async () => {
    await using server = await TestNbdServer.start({ disk: disk() }, { tls });
    using client = await NbdClient.greeted(server.tcpAddress);
    await client.option(5);
    client.send(optionMessage(7, infoRequest('disk')));
    await client.closed();
    using silent = await NbdClient.greeted(server.tcpAddress);
    await silent.option(5);
    silent.socket.end();
    await silent.closed();
    await until(() => server.server.connectionCount === 0);
    expect(server.errors).to.deep.equal([]);
  });

  it('names the client by its certificate, and refuses others', async () => {
    await using server = await TestNbdServer.start({ disk: disk() }, { tls: withClients });
    const open = async (certificate: { cert?: string; key?: string }): Promise<string | undefined> => {
      using plain = await NbdClient.greeted(server.tcpAddress);
      using client = await secured(plain, certificate);
      await client.option(7, infoRequest('disk'));
      return server.exports.peers.at(-1)!.certificateSubject;
    };
    const tomorrow = new Date(Date.now() + 86_400_000);
    const yesterday = new Date(Date.now() - 86_400_000);
    expect(await open(authority.issue([], tomorrow, ['aje-writer']))).to.equal('aje-writer');
    expect(await open(authority.issue([], tomorrow, ['aje-writer', 'root']))).to.equal(undefined);
    const opened = server.exports.peers.length;
    const bad = [{}, authority.issue([], yesterday, ['late']), makeAuthority().issue([], tomorrow, ['foreign'])];
    for (const certificate of bad) {
      // In TLS 1.3 a client believes to be in before it is refused.
      const failure = await open(certificate).then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(failure).to.be.instanceOf(Error);
    }
    expect(server.exports.peers).to.have.length(opened);
  });

  it('may be had without a certificate where that is allowed, but not with a bad one', async () => {
    await using server = await TestNbdServer.start(
      { disk: disk() },
      { tls: { ...withClients, requireClientCertificate: false } },
    );
    {
      using plain = await NbdClient.greeted(server.tcpAddress);
      using client = await secured(plain);
      expect((await client.option(7, infoRequest('disk'))).at(-1)!.reply).to.equal(ack);
      expect(server.exports.peers.at(-1)!.certificateSubject).to.equal(undefined);
    }
    using plain = await NbdClient.greeted(server.tcpAddress);
    const failure = await secured(plain, makeAuthority().issue([]))
      .then(
        (client) => client.option(7, infoRequest('disk')),
        (error: unknown) => error,
      )
      .then(
        () => undefined,
        (error: unknown) => error,
      );
    void failure;
    expect(server.exports.peers).to.have.length(1);
  });

  it('shows a new certificate to those who come later', async () => {
    await using server = await TestNbdServer.start({ disk: disk() }, { tls });
    const later = makeAuthority();
    const { cert: laterCertificate, key: laterKey } = later.issue(['localhost']);
    server.server.replaceTls({ certificate: laterCertificate, key: laterKey });
    using client = await NbdClient.greeted(server.tcpAddress);
    const failure = await secured(client).then(
      () => undefined,
      (error: Error) => error.message,
    );
    expect(failure).to.match(/signature|unable to verify|self-signed/);
  });
});
