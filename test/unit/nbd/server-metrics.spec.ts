import { expect } from 'chai';
import { observeNbdServer } from '../../../src/nbd/server-metrics.ts';
import { Metrics } from '../../../src/platform/metrics.ts';
import { MemoryDevice } from '../../support/memory-device.ts';
import { NbdClient, request } from '../../support/nbd-client.ts';
import { TestNbdServer } from '../../support/nbd-server.ts';

describe('The metrics of an NBD server', () => {
  it('tell what was asked of it, by command, what failed, and how many bytes went either way', async () => {
    await using server = await TestNbdServer.start({ disk: new MemoryDevice(Buffer.alloc(65536)) });
    const metrics = new Metrics();
    observeNbdServer(metrics, server.server);
    using client = await NbdClient.opened(server.socketPath, 'disk');
    const asked: [Buffer, number][] = [
      [Buffer.concat([request('write', { length: 512 }), Buffer.alloc(512, 1)]), 0],
      [request('read', { length: 1024 }), 1024],
      [request('read', { offset: 1024, length: 1024 }), 1024],
      [request('flush'), 0],
      [request('trim', { length: 4096 }), 0],
      [request('writeZeroes', { length: 4096 }), 0],
      // Outside of the export.
      [request('read', { offset: 65536, length: 1 }), 0],
    ];
    for (const [bytes, dataBytes] of asked) {
      client.send(bytes);
      await client.simpleReply(dataBytes);
    }
    const { body } = await metrics.render();
    expect(body.split('\n').filter((line) => /^obraz_nbd_(?!held)/.test(line))).to.deep.equal([
      'obraz_nbd_requests_total{command="read"} 2',
      'obraz_nbd_requests_total{command="write"} 1',
      'obraz_nbd_requests_total{command="flush"} 1',
      'obraz_nbd_requests_total{command="trim"} 1',
      'obraz_nbd_requests_total{command="write_zeroes"} 1',
      'obraz_nbd_requests_total{command="block_status"} 0',
      'obraz_nbd_failures_total 1',
      'obraz_nbd_read_bytes_total 2048',
      'obraz_nbd_written_bytes_total 512',
      'obraz_nbd_connections 1',
    ]);
  });
});
