import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import path from 'node:path';
import { expect } from 'chai';
import { canonicalPeer, lostPeersOf } from '../../../src/nbd/lost-peers.ts';
import { isLongRun } from '../../support/sample.ts';
import { requireTool, run } from '../../support/tools.ts';

const head = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';

describe('The peers of NBD that do not acknowledge', () => {
  before(function () {
    if (process.platform !== 'linux') {
      console.warn('SKIPPED: only Linux tells how often it repeats');
      this.skip();
    }
  });

  it('are those of our ports for which the kernel repeated six times in vain', () => {
    const line = (local: string, remote: string, repeats: string): string =>
      `   3: ${local} ${remote} 01 00000400:00000000 01:000000A3 ${repeats}     0        0 1234 3 0000000000000000 20 4 30 10 -1\n`;
    const table = [
      head,
      line('0100007F:2A39', '0200007F:C001', '00000006'),
      line('0100007F:2A39', '0300007F:C002', '00000005'),
      line('0100007F:1234', '0400007F:C003', '0000000F'),
      line('00000000000000000000000001000000:2A39', 'B80D0120000000000000000005000000:C004', '0000000A'),
      line('0000000000000000FFFF00000100007F:2A39', '0000000000000000FFFF00000600007F:C005', '00000007'),
      'something else\n',
    ].join('');
    expect(lostPeersOf(table, new Set([10_809]))).to.deep.equal([
      canonicalPeer('127.0.0.2', 0xc001),
      canonicalPeer('2001:db8::5', 0xc004),
      canonicalPeer('::ffff:127.0.0.6', 0xc005),
    ]);
    expect(lostPeersOf('', new Set([10_809]))).to.deep.equal([]);
  });

  it('are found in the kernel’s own words', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const client = connect(port, '127.0.0.1');
    await once(client, 'connect');
    // A connection that works, with its count changed: what is told of it is read as the address that Node knows.
    const table = await readFile('/proc/net/tcp', 'latin1');
    const counted = table.replaceAll(/ [0-9A-F]{8} (?=\s*\d+\s+\d+ \d+ )/g, ' 00000009 ');
    expect(lostPeersOf(table, new Set([port]))).to.deep.equal([]);
    expect(lostPeersOf(counted, new Set([port]))).to.include(canonicalPeer('127.0.0.1', client.localPort!));
    client.destroy();
    server.close();
  });

  // Takes the 15 s that it is about.
  (isLongRun ? it : it.skip)('lose their connections in seconds, and so do quiet ones', async function () {
    this.timeout(180_000);
    requireTool(this, 'unshare', 'util-linux, and root or user namespaces', '-rn', 'ip', 'link', 'set', 'lo', 'up');
    const program = path.join(import.meta.dirname, 'support/vanishing-clients.ts');
    const said = await run('unshare', '-rn', process.execPath, program);
    expect(said).to.match(/^the client's machine does not answer\nthe connection failed: read ETIMEDOUT\n$/);
  });
});
