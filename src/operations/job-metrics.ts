// What Prometheus hears of jobs.
import type { Metrics } from '../platform/metrics.ts';
import { type JobMetrics, jobOutcomes } from './runner-parts.ts';

/** `kinds`: those of the handlers. Once per process; runners share it. */
export function createJobMetrics(metrics: Metrics, kinds: readonly string[]): JobMetrics {
  const waited = metrics.histogram({
    name: 'obraz_job_wait_seconds',
    help: 'From when a job was due to when a runner here took it.',
    labels: { kind: kinds },
    buckets: [0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600],
  });
  const ran = metrics.histogram({
    name: 'obraz_job_attempt_seconds',
    help: 'How long attempts at jobs took here, by how they ended.',
    labels: { kind: kinds, outcome: jobOutcomes },
    buckets: [0.01, 0.1, 1, 5, 30, 120, 600, 3600],
  });
  const held = metrics.gauge({ name: 'obraz_jobs_running', help: 'Jobs that run here now.', labels: { kind: kinds } });
  return {
    claimed: (kind, waitedMs) => waited.with({ kind }).observe(waitedMs / 1000),
    started: (kind) => held.with({ kind }).inc(),
    left(kind, outcome, durationMs) {
      held.with({ kind }).dec();
      ran.with({ kind, outcome }).observe(durationMs / 1000);
    },
  };
}
