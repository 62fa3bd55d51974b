// Clients whose machine is gone. Keepalive finds them while a connection is quiet, but says nothing while bytes of ours are on their
// way: then the kernel repeats them for a quarter of an hour, and Node cannot set a shorter time (TCP_USER_TIMEOUT). Linux tells how
// often it repeated in vain (/proc/net/tcp, column `retrnsmt`); elsewhere nobody is found here. A client that is there and does not read
// is not lost: its machine acknowledges.
import { readFile } from 'node:fs/promises';
import { endianness } from 'node:os';
import ipaddr from 'ipaddr.js';

/** The kernel waits for 0.2 s at least, and twice as long each time: six times in vain are 12 s, and more on slow ways. */
const lostAfterRepeats = 6;

/** `address` in one spelling, so that it can be looked up in lostPeers: an IPv4 address also where it came in as an IPv6 one. */
export const canonicalPeer = (host: string, port: number): string =>
  `${ipaddr.process(host.replace(/%.*$/, '')).toString()} ${port}`;

/** The remote ends that do not acknowledge, of connections to one of our ports; as canonicalPeer writes them. */
export async function lostPeers(localPorts: ReadonlySet<number>): Promise<Set<string>> {
  const tables = await Promise.all(['/proc/net/tcp', '/proc/net/tcp6'].map((file) => readFile(file, 'latin1').catch(() => '')));
  return new Set(tables.flatMap((table) => lostPeersOf(table, localPorts)));
}

/** The same of the text of one table. */
export function lostPeersOf(table: string, localPorts: ReadonlySet<number>): string[] {
  const lost: string[] = [];
  for (const line of table.split('\n').slice(1)) {
    const [, local, remote, , , , repeats] = line.trim().split(/\s+/);
    const [address, port] = remote?.split(':') ?? [];
    if (local === undefined || address === undefined || port === undefined || repeats === undefined) continue;
    if (Number.parseInt(repeats, 16) < lostAfterRepeats) continue;
    if (!localPorts.has(Number.parseInt(local.split(':')[1] ?? '', 16))) continue;
    lost.push(canonicalPeer(addressOf(address), Number.parseInt(port, 16)));
  }
  return lost;
}

/** Words of 32 bits, each in the machine's own order. */
function addressOf(hex: string): string {
  const bytes = Buffer.from(hex, 'hex');
  if (endianness() === 'LE') bytes.swap32();
  return ipaddr.fromByteArray([...bytes]).toString();
}
