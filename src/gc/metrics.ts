// What Prometheus hears of garbage collection.
import type { Metrics } from '../platform/metrics.ts';
import type { CollectedAll } from './collect.ts';

export interface GcMetrics {
  collected(collected: CollectedAll, durationMs: number): void;
  failed(): void;
}

export function createGcMetrics(metrics: Metrics): GcMetrics {
  const runs = metrics.counter({
    name: 'obraz_gc_runs_total',
    help: 'Runs of garbage collection here, scheduled and by command.',
    labels: { outcome: ['done', 'failed'] },
  });
  const duration = metrics
    .histogram({
      name: 'obraz_gc_run_seconds',
      help: 'How long runs took that reached their end.',
      buckets: [0.05, 0.2, 1, 5, 30, 120, 600, 3600],
    })
    .with({});
  const deleted = metrics.counter({ name: 'obraz_gc_deleted_objects_total', help: 'Objects that were deleted here.' }).with({});
  const gauge = (name: string, help: string) =>
    metrics.gauge({ name: `obraz_gc_${name}`, help: `As of the last run here: ${help}` }).with({});
  const stored = gauge('stored_objects', 'objects in the store.');
  const storedBytes = gauge('stored_bytes', 'bytes in the store.');
  const reachable = gauge('reachable_objects', 'objects that images, snapshots, disks and jobs need.');
  const missing = gauge('missing_objects', 'objects that are needed and not in the store; obraz scrub tells whom they touch.');
  const pending = gauge('condemned_objects', 'objects that nothing needs and that wait to be deleted.');
  return {
    collected(collected, durationMs) {
      runs.with({ outcome: 'done' }).inc();
      duration.observe(durationMs / 1000);
      deleted.inc(collected.deleted);
      stored.set(collected.stored);
      storedBytes.set(collected.storedBytes);
      reachable.set(collected.reachable);
      missing.set(collected.missing);
      pending.set(collected.pending);
    },
    failed: () => runs.with({ outcome: 'failed' }).inc(),
  };
}
