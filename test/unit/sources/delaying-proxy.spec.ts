import { expect } from 'chai';
import { once } from 'node:events';
import { connect } from 'node:net';
import { startDelayingProxy } from '../../support/delaying-proxy.ts';
import { startWebServer } from '../../support/web-server.ts';
import { patternBytes, sameBytes } from './fixture.ts';

const content = patternBytes(5_000_000);

describe('delaying proxy', () => {
  it('carries every byte in order, no sooner than its delay and its rate allow', async () => {
    await using server = await startWebServer({ content });
    await using proxy = await startDelayingProxy({ port: server.port, oneWayMs: 40, bytesPerSecond: 50_000_000 });
    const startedAt = performance.now();
    const response = await fetch(`http://127.0.0.1:${proxy.port}/x`, { headers: { connection: 'close' } });
    const firstAt = performance.now();
    const received = new Uint8Array(await response.arrayBuffer());
    const endedAt = performance.now();
    expect(sameBytes(received, content)).to.equal(true);
    expect(firstAt - startedAt).to.be.greaterThan(78);
    expect(endedAt - startedAt).to.be.greaterThan(170);
  });

  it('passes the end of a connection on, in both directions', async () => {
    await using server = await startWebServer({ content, behaviour: { breakAfterBytes: 1000 } });
    await using proxy = await startDelayingProxy({ port: server.port, oneWayMs: 5 });
    const socket = connect(proxy.port, '127.0.0.1');
    socket.resume();
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'end');
    socket.destroy();
    while (server.openConnectionCount > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  });
});
