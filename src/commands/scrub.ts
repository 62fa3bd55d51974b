import { type Config, readConfig } from '../config.ts';
import type { ScrubFinding } from '../scrub/scrub-store.ts';
import { defineCommand, untilInterrupted, UsageError } from './command.ts';
import { ProgressLine } from './progress-line.ts';
import { eitherWay, readStream } from './running-service.ts';

const MiB = 1024 ** 2;
const defaultRate = 200;
/** Exit status. */
const damageFound = 3;

export const scrub = defineCommand({
  summary: 'read all image data again and name what damage touches',
  description: `Compares every stored object with its hash, marks what is damaged so that the next upload of the same data
repairs it, and names the images, snapshots and disks that need it. Nothing else is changed. The service does
the same by itself once a week, slowly (OBRAZ_SCRUB_MIB_PER_SECOND). When the service runs, it does the work.

Exit status: 0 all is whole, 3 something is damaged or missing, 1 scrub itself failed.`,
  options: {
    'mib-per-second': { type: 'string', value: '<n>', help: `most that is read per second, by default ${defaultRate}` },
  },
  async run({ environment, options }) {
    const config = readConfig(environment);
    const { objects, bytes, findings } = await scrubAll(config, parseRate(options['mib-per-second']) * MiB);
    for (const finding of findings) process.stdout.write(describe(finding));
    const touched = new Set(findings.flatMap(({ holders }) => holders.map(({ id }) => id)));
    process.stdout.write(
      `objects: ${objects} (${bytes} bytes); damaged or missing: ${findings.length}; touched by that: ${touched.size}\n`,
    );
    if (findings.length > 0) process.exitCode = damageFound;
  },
});

function parseRate(text: string | undefined): number {
  if (text === undefined) return defaultRate;
  if (!/^[1-9]\d{0,5}$/.test(text))
    throw new UsageError(`scrub: --mib-per-second is a number from 1 to 999999, not "${text}"`, { cause: 'scrub' });
  return Number(text);
}

function describe({ key, reason, holders }: ScrubFinding): string {
  const lines = holders.map(({ kind, id, name }) => `  ${kind} ${id}${name === '' ? '' : ` "${name}"`}\n`);
  return `${key}: ${reason}\n${lines.join('') || '  nothing uses it\n'}`;
}

interface Scrubbed {
  objects: number;
  bytes: number;
  findings: ScrubFinding[];
}

async function scrubAll(config: Config, bytesPerSecond: number): Promise<Scrubbed> {
  const signal = untilInterrupted();
  using line = new ProgressLine();
  const tell = (bytes: number, bytesTotal: number, damaged: number) =>
    line.show(`${Math.floor(bytes / MiB)} of ${Math.ceil(bytesTotal / MiB)} MiB read; damaged objects: ${damaged}`);
  // Awaited here: the line is there only inside this function.
  return await eitherWay(config, signal, {
    async alone(parts) {
      const [{ scrubNow }, { totalBytes }] = await Promise.all([
        import('../scrub/scrub-store.ts'),
        import('../scrub/total-bytes.ts'),
      ]);
      const storage = await parts.storage();
      const bytesTotal = await totalBytes(storage.blobs, signal);
      const onProgress = ({ bytes, damaged }: { bytes: number; damaged: number }) => tell(bytes, bytesTotal, damaged);
      return scrubNow({ storage, fork: parts.fork, bytesPerSecond, signal, onProgress });
    },
    async through(service) {
      const { MaintenanceServiceClient } = await import('../../generated/obraz/v1/maintenance.ts');
      const scrubbed: Scrubbed = { objects: 0, bytes: 0, findings: [] };
      await service.with(MaintenanceServiceClient, (client) =>
        readStream(client.scrub({ bytesPerSecond: BigInt(bytesPerSecond) }, service.metadata), signal, (message) => {
          scrubbed.objects = Number(message.objects);
          scrubbed.bytes = Number(message.bytes);
          for (const finding of message.findings) addFinding(scrubbed.findings, finding as ScrubFinding);
          tell(scrubbed.bytes, Number(message.bytesTotal), Number(message.damagedObjects));
        }),
      );
      return scrubbed;
    },
  });
}

/** A finding with many holders comes in parts. */
function addFinding(findings: ScrubFinding[], part: ScrubFinding): void {
  const last = findings.at(-1);
  if (last?.key === part.key) last.holders.push(...part.holders);
  else findings.push(part);
}
