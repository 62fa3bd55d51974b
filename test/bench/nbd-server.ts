// The NBD server over a device in memory, as a process of its own for test/bench/nbd.ts. Arguments: the file to serve, the socket.
import { readFileSync } from 'node:fs';
import { startNbdServer } from '../../src/nbd/server.ts';
import { MemoryDevice, MemoryExports } from '../support/memory-device.ts';

const [file, socket] = process.argv.slice(2) as [string, string];
const server = await startNbdServer({
  endpoints: [{ address: socket, tls: 'off' }],
  provider: new MemoryExports({ disk: new MemoryDevice(readFileSync(file), { recordsCalls: false }) }),
  onError: (error) => console.error(error),
});
console.log('listening');
process.once('SIGTERM', () => void server[Symbol.asyncDispose]().then(() => process.exit(0)));
