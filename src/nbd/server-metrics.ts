// What an NBD server counts, as metrics.
import type { Metrics } from '../platform/metrics.ts';
import type { NbdCounters } from './execution.ts';
import type { NbdServer } from './server.ts';

/** The label of each command, and the counter that has its requests. */
const commands = {
  read: 'reads',
  write: 'writes',
  flush: 'flushes',
  trim: 'trims',
  write_zeroes: 'zeroes',
  block_status: 'blockStatuses',
} as const satisfies Record<string, keyof NbdCounters>;

type Command = keyof typeof commands;

/** Once per registry. */
export function observeNbdServer(metrics: Metrics, server: Pick<NbdServer, 'counters' | 'connectionCount' | 'heldBytes'>): void {
  const { counters } = server;
  const names = Object.keys(commands) as Command[];
  metrics.observedCounter(
    { name: 'obraz_nbd_requests_total', help: 'NBD requests that were taken up.', labels: { command: names } },
    names.map((command) => ({ labels: { command }, read: () => counters[commands[command]] })),
  );
  const counted = (name: string, help: string, key: keyof NbdCounters): void =>
    metrics.observedCounter({ name, help }, [{ labels: {}, read: () => counters[key] }]);
  counted('obraz_nbd_failures_total', 'NBD requests that were answered with an error, refused ones among them.', 'failures');
  counted('obraz_nbd_read_bytes_total', 'Bytes that NBD clients asked to read.', 'readBytes');
  counted('obraz_nbd_written_bytes_total', 'Bytes that NBD clients sent to be written.', 'writtenBytes');
  metrics.observedGauge(
    { name: 'obraz_nbd_connections', help: 'NBD connections, with those that have nothing open yet.' },
    () => server.connectionCount,
  );
  metrics.observedGauge(
    { name: 'obraz_nbd_held_bytes', help: 'Memory that NBD requests and answers take.' },
    () => server.heldBytes,
  );
}
