// A program for lost-peers.spec.ts, in a network of its own: two clients whose machine vanishes, one while bytes are on their way to it, and
// one while nothing is. Prints why the server closed each, in the order in which they came.
import { execFileSync } from 'node:child_process';
import { MemoryDevice } from '../../../support/memory-device.ts';
import { NbdClient, request } from '../../../support/nbd-client.ts';
import { TestNbdServer } from '../../../support/nbd-server.ts';

const MiB = 1024 * 1024;

execFileSync('ip', ['link', 'set', 'lo', 'up']);
const server = await TestNbdServer.start({ disk: new MemoryDevice(Buffer.alloc(16 * MiB, 1)) });
const busy = await NbdClient.opened(server.tcpAddress, 'disk');
await NbdClient.opened(server.tcpAddress, 'disk');
busy.socket.pause();
busy.send(request('read', { length: 16 * MiB }));
while (server.server.counters.reads === 0) await new Promise((resolve) => setTimeout(resolve, 1));
// Nothing arrives any more; the kernel's buffers were too small for the answer.
execFileSync('ip', ['link', 'set', 'lo', 'down']);
while (server.closed.length < 2) await new Promise((resolve) => setTimeout(resolve, 100));
for (const [, reason] of server.closed.toSorted(([a], [b]) => a.id - b.id)) console.log(reason);
process.exit(0);
