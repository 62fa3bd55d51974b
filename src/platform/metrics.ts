// Prometheus metrics with closed label sets: every value that a label may take is listed where the metric is made, so that no input
// from outside can grow the number of time series. A time series is a few numbers here, added to in nanoseconds: prom-client's own
// look their labels up each time, which costs an API call a tenth of its rate. prom-client renders, and measures the process.
import { type Metric, Registry, collectDefaultMetrics } from 'prom-client';

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

/** A metric; `with` answers one of its time series. Keep that where the path is hot. @throws Error for a value that is not listed. */
export interface LabelledMetric<Label extends string, Series> {
  with(labels: Labels<Label>): Series;
}

export interface CounterSeries {
  inc(by?: number): void;
}

export interface GaugeSeries extends CounterSeries {
  set(value: number): void;
  dec(by?: number): void;
}

export interface HistogramSeries {
  observe(value: number): void;
}

export class Metrics {
  readonly #registry = new Registry();

  /** Adds what Node tells of this process: memory, processor time, delay of the event loop. Once per process. */
  collectProcess(): void {
    collectDefaultMetrics({ register: this.#registry });
  }

  counter<Label extends string = never>(options: MetricOptions<Label>): LabelledMetric<Label, CounterSeries> {
    return this.#register('counter', options, () => new NumberSeries());
  }

  gauge<Label extends string = never>(options: MetricOptions<Label>): LabelledMetric<Label, GaugeSeries> {
    return this.#register('gauge', options, () => new NumberSeries());
  }

  /** A gauge without labels whose value is asked for when metrics are read. */
  observedGauge(options: MetricOptions<never>, read: () => number): void {
    this.#register('gauge', options, () => ({ samples: () => [{ value: read() }] })).with({});
  }

  /** A counter that is kept elsewhere: its series, each with what answers its value when metrics are read. */
  observedCounter<Label extends string = never>(
    options: MetricOptions<Label>,
    series: readonly { labels: Labels<Label>; read: () => number }[],
  ): void {
    const reads = series.map(({ read }) => read);
    // Made one after another, in this order.
    const metric = this.#register('counter', options, () => {
      const read = reads.shift()!;
      return { samples: () => [{ value: read() }] };
    });
    for (const { labels } of series) metric.with(labels);
  }

  histogram<Label extends string = never>(options: HistogramOptions<Label>): LabelledMetric<Label, HistogramSeries> {
    return this.#register('histogram', options, () => new BucketSeries(options.name, options.buckets));
  }

  /** Everything in the text format that Prometheus reads, with its content type. */
  async render(): Promise<{ contentType: string; body: string }> {
    return { contentType: this.#registry.contentType, body: await this.#registry.metrics() };
  }

  #register<Label extends string, Series extends Sampled>(
    type: 'counter' | 'gauge' | 'histogram',
    { name, help, labels: allowed }: MetricOptions<Label>,
    create: () => Series,
  ): LabelledMetric<Label, Series> {
    const names = Object.keys(allowed ?? {}) as Label[];
    const known = new Map<string, { labels: Labels<Label>; series: Series }>();
    // All that a registry asks of a metric.
    const metric = {
      name,
      help,
      type,
      get: async () => ({ name, help, type, values: [...known.values()].flatMap(({ labels, series }) => shown(labels, series)) }),
    };
    this.#registry.registerMetric(metric as unknown as Metric);
    return {
      with(labels) {
        assertAllowed(name, labels, allowed);
        const key = names.map((label) => labels[label]).join('\0');
        const found = known.get(key);
        if (found !== undefined) return found.series;
        const series = create();
        known.set(key, { labels, series });
        return series;
      },
    };
  }
}

interface Sample {
  /** When it is not the metric's own. */
  metricName?: string;
  /** Besides the series' own. */
  labels?: Record<string, string | number>;
  value: number;
}

interface Sampled {
  samples(): Sample[];
}

const shown = (labels: object, series: Sampled): Sample[] =>
  series.samples().map((sample) => Object.assign(sample, { labels: { ...sample.labels, ...labels } }));

function assertAllowed<Label extends string>(
  metric: string,
  labels: Labels<Label>,
  allowed: LabelValues<Label> | undefined,
): void {
  const names = Object.keys(allowed ?? {});
  for (const name of new Set([...names, ...Object.keys(labels)])) {
    const value: string | undefined = labels[name as Label];
    if (value === undefined || allowed?.[name as Label]?.includes(value) !== true) {
      throw new Error(`${metric}: the label ${name} cannot be "${value}"`);
    }
  }
}

class NumberSeries implements GaugeSeries, Sampled {
  #value = 0;

  inc(by = 1): void {
    this.#value += by;
  }

  dec(by = 1): void {
    this.#value -= by;
  }

  set(value: number): void {
    this.#value = value;
  }

  samples(): Sample[] {
    return [{ value: this.#value }];
  }
}

class BucketSeries implements HistogramSeries, Sampled {
  readonly #name: string;
  readonly #bounds: readonly number[];
  /** How many were in each bucket and in none below it; the last one has no bound. */
  readonly #counts: number[];
  #sum = 0;

  constructor(name: string, bounds: readonly number[]) {
    this.#name = name;
    this.#bounds = bounds;
    this.#counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(value: number): void {
    let bucket = 0;
    while (bucket < this.#bounds.length && value > this.#bounds[bucket]!) bucket += 1;
    this.#counts[bucket]! += 1;
    this.#sum += value;
  }

  samples(): Sample[] {
    let count = 0;
    const buckets = this.#counts.map((inBucket, index) => {
      count += inBucket;
      return { metricName: `${this.#name}_bucket`, labels: { le: this.#bounds[index] ?? '+Inf' }, value: count };
    });
    return [
      ...buckets,
      { metricName: `${this.#name}_sum`, value: this.#sum },
      { metricName: `${this.#name}_count`, value: count },
    ];
  }
}
