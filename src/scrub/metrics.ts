// What Prometheus hears of scrubs.
import type { Metrics } from '../platform/metrics.ts';
import type { ScrubSummary } from './scrub-pass.entity.ts';
import type { ScrubProgress } from './scrub-store.ts';

const holderKinds = ['images', 'snapshots', 'disks'] as const;
const objectKinds = ['chunks', 'pages'] as const;

export interface ScrubMetrics {
  /** Answers a function that counts what was read since it was asked last. */
  reader(): (progress: Pick<ScrubProgress, 'objects' | 'bytes'>) => void;
  /** A pass ended here. */
  finished(summary: ScrubSummary): void;
  failed(): void;
  /** The last pass that has finished anywhere. */
  last(summary: ScrubSummary, atSeconds: number): void;
}

export function createScrubMetrics(metrics: Metrics): ScrubMetrics {
  const objects = metrics.counter({ name: 'obraz_scrub_objects_total', help: 'Stored objects that scrub has read.' }).with({});
  const bytes = metrics.counter({ name: 'obraz_scrub_bytes_total', help: 'Stored bytes that scrub has read.' }).with({});
  const passes = metrics.counter({
    name: 'obraz_scrub_passes_total',
    help: 'Passes of scrub, scheduled and by command, by how they ended.',
    labels: { outcome: ['whole', 'damaged', 'failed'] },
  });
  const damaged = metrics.gauge({
    name: 'obraz_scrub_damaged_objects',
    help: 'Stored objects that the last finished pass found damaged or missing.',
    labels: { kind: objectKinds },
  });
  const touched = metrics.gauge({
    name: 'obraz_scrub_touched_resources',
    help: 'Images, snapshots and disks whose data needs an object that the last finished pass found damaged or missing.',
    labels: { kind: holderKinds },
  });
  const finishedAt = metrics
    .gauge({ name: 'obraz_scrub_last_pass_timestamp_seconds', help: 'When the last pass finished; 0 when none has.' })
    .with({});
  return {
    reader() {
      let told = { objects: 0, bytes: 0 };
      return (progress) => {
        objects.inc(progress.objects - told.objects);
        bytes.inc(progress.bytes - told.bytes);
        told = { objects: progress.objects, bytes: progress.bytes };
      };
    },
    finished: ({ chunks, pages }) => passes.with({ outcome: chunks + pages > 0 ? 'damaged' : 'whole' }).inc(),
    failed: () => passes.with({ outcome: 'failed' }).inc(),
    last(summary, atSeconds) {
      for (const kind of objectKinds) damaged.with({ kind }).set(summary[kind]);
      for (const kind of holderKinds) touched.with({ kind }).set(summary[kind]);
      finishedAt.set(atSeconds);
    },
  };
}
