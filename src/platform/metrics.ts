// Prometheus metrics with closed label sets: every value that a label may take is listed where the metric is made, so that no input
// from outside can grow the number of time series.
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

/** For each label the values that it may take. */
export type LabelValues<Label extends string> = Readonly<Record<Label, readonly string[]>>;

export interface MetricOptions<Label extends string> {
  /** Starts with `obraz_`, ends with the unit: `obraz_grpc_calls_total`, `…_seconds`, `…_bytes`. */
  name: string;
  help: string;
  /** Default: no labels. */
  labels?: LabelValues<Label>;
}

export interface HistogramOptions<Label extends string> extends MetricOptions<Label> {
  /** Upper bounds, ascending, in the unit of the name. */
  buckets: readonly number[];
}

type Labels<Label extends string> = Readonly<Record<Label, string>>;

/** `with` answers one time series, checked once; keep it where the path is hot. @throws Error for a value that is not listed. */
export interface ClosedCounter<Label extends string> {
  with(labels: Labels<Label>): { inc(by?: number): void };
}

export interface ClosedGauge<Label extends string> {
  with(labels: Labels<Label>): { set(value: number): void; inc(by?: number): void; dec(by?: number): void };
}

export interface ClosedHistogram<Label extends string> {
  with(labels: Labels<Label>): { observe(value: number): void };
}

export class Metrics {
  readonly #registry = new Registry();

  /** Adds what Node tells of this process: memory, processor time, delay of the event loop. Once per process. */
  collectProcess(): void {
    collectDefaultMetrics({ register: this.#registry });
  }

  counter<Label extends string = never>(options: MetricOptions<Label>): ClosedCounter<Label> {
    return closed(options.labels, new Counter(this.#configuration(options)));
  }

  gauge<Label extends string = never>(options: MetricOptions<Label>): ClosedGauge<Label> {
    return closed(options.labels, new Gauge(this.#configuration(options)));
  }

  /** A gauge without labels whose value is asked for when metrics are read. */
  observedGauge({ name, help }: MetricOptions<never>, read: () => number): void {
    const gauge: Gauge = new Gauge({ name, help, registers: [this.#registry], collect: () => gauge.set(read()) });
  }

  histogram<Label extends string = never>(options: HistogramOptions<Label>): ClosedHistogram<Label> {
    return closed(options.labels, new Histogram({ ...this.#configuration(options), buckets: [...options.buckets] }));
  }

  /** Everything in the text format that Prometheus reads, with its content type. */
  async render(): Promise<{ contentType: string; body: string }> {
    return { contentType: this.#registry.contentType, body: await this.#registry.metrics() };
  }

  #configuration<Label extends string>({ name, help, labels }: MetricOptions<Label>) {
    return { name, help, labelNames: Object.keys(labels ?? {}) as Label[], registers: [this.#registry] };
  }
}

function closed<Label extends string, Series>(
  allowed: LabelValues<Label> | undefined,
  metric: { labels(labels: Labels<Label>): Series },
): { with(labels: Labels<Label>): Series } {
  return {
    with(labels) {
      for (const [name, value] of Object.entries<string>(labels)) {
        const values: readonly string[] | undefined = allowed?.[name as Label];
        if (values?.includes(value) !== true) throw new Error(`the label ${name} of a metric cannot be "${value}"`);
      }
      return metric.labels(labels);
    },
  };
}
