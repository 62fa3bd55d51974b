import { once } from 'node:events';
import { type Server, type Socket, connect, createServer } from 'node:net';
import { expect } from 'chai';
import { readDirectly } from '../../../src/nbd/direct-socket.ts';
import { until } from '../../support/nbd-server.ts';

describe('A socket that is read into given memory', () => {
  let server: Server;
  let client: Socket;
  let accepted: Socket;
  beforeEach(async () => {
    server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address() as { port: number };
    client = connect(address.port, '127.0.0.1');
    [accepted] = (await once(server, 'connection')) as [Socket];
  });
  afterEach(() => {
    client.destroy();
    accepted.destroy();
    server.close();
  });

  it('goes on with the connection, both ways, to its end', async () => {
    const memory = Buffer.alloc(10);
    let filled = 0;
    const pieces: string[] = [];
    const direct = readDirectly(accepted, {
      target: () => memory.subarray(filled === 10 ? (filled = 0) : filled),
      received: (bytes) => {
        expect(bytes.buffer).to.equal(memory.buffer);
        pieces.push(Buffer.from(bytes).toString());
        filled += bytes.length;
      },
    });
    // On a Node where this is undefined everything works, and large writes are slower.
    expect(direct).to.not.equal(undefined);
    client.write('0123456789abcdef');
    await until(() => pieces.join('').length === 16);
    expect(pieces[0]).to.equal('0123456789');
    direct!.pause();
    client.write('later');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(pieces.join('')).to.have.length(16);
    direct!.resume();
    await until(() => pieces.join('').endsWith('later'));
    direct!.write('back');
    expect(String((await once(client, 'data'))[0])).to.equal('back');
    client.end();
    await once(direct!, 'close');
    const closed = once(server, 'close');
    server.close();
    await closed;
  });

  it('is not made of one that has unread bytes, or has ended', async () => {
    const reader = { target: () => Buffer.alloc(10), received: () => undefined };
    client.write('early');
    accepted.once('readable', () => undefined);
    await until(() => accepted.readableLength === 5);
    expect(readDirectly(accepted, reader)).to.equal(undefined);
    expect(String(accepted.read())).to.equal('early');
    accepted.destroy();
    expect(readDirectly(accepted, reader)).to.equal(undefined);
  });
});
