// Calls in numbers: how many by method and code, and how long they took. Methods and codes are closed sets.
import type { Metrics } from '../platform/metrics.ts';
import { type Descriptors, methodPaths } from './descriptors.ts';
import { codeNames } from './status.ts';

export interface MethodMetrics {
  started(): void;
  ended(code: number, seconds: number): void;
}

export interface RequestMetrics {
  /** The metrics of one method, by its full name without the first slash. @throws Error for a method that the contract lacks. */
  forMethod(method: string): MethodMetrics;
}

const bucketsSeconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export function createRequestMetrics(metrics: Metrics, descriptors: Descriptors): RequestMetrics {
  const method = methodPaths(descriptors).map((path) => path.slice(1));
  const total = metrics.counter({
    name: 'obraz_grpc_calls_total',
    help: 'Calls that have ended, by method and status code.',
    labels: { method, code: codeNames },
  });
  const duration = metrics.histogram({
    name: 'obraz_grpc_call_seconds',
    help: 'Time from request to answer, by method. Streams last as long as their clients like.',
    labels: { method },
    buckets: bucketsSeconds,
  });
  const running = metrics.gauge({ name: 'obraz_grpc_running_calls', help: 'Calls under way.' }).with({});
  return {
    forMethod(name) {
      const durations = duration.with({ method: name });
      const totals: { inc(): void }[] = [];
      return {
        started: () => running.inc(),
        ended(number, seconds) {
          running.dec();
          (totals[number] ??= total.with({ method: name, code: codeNames[number]! })).inc();
          durations.observe(seconds);
        },
      };
    },
  };
}
