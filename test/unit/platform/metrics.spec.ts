import { expect } from 'chai';
import { Metrics } from '../../../src/platform/metrics.ts';

describe('Metrics', () => {
  it('are shown in the text format, one series per set of labels', async () => {
    const metrics = new Metrics();
    const counter = metrics.counter({ name: 'obraz_calls_total', help: 'Calls.', labels: { code: ['OK', 'NOT_FOUND'] } });
    counter.with({ code: 'OK' }).inc();
    counter.with({ code: 'OK' }).inc(2);
    metrics.gauge({ name: 'obraz_open', help: 'Open.' }).with({}).set(7);
    metrics
      .histogram({ name: 'obraz_call_seconds', help: 'Time.', buckets: [0.1, 1] })
      .with({})
      .observe(0.5);
    const { body, contentType } = await metrics.render();
    expect(contentType).to.match(/^text\/plain/);
    expect(body).to.include('obraz_calls_total{code="OK"} 3').and.to.not.include('NOT_FOUND');
    expect(body).to.include('obraz_open 7');
    expect(body).to.include('obraz_call_seconds_bucket{le="0.1"} 0').and.to.include('obraz_call_seconds_bucket{le="1"} 1');
  });

  it('refuse label values that were not listed, so that input cannot add series', () => {
    const counter = new Metrics().counter({ name: 'obraz_calls_total', help: 'Calls.', labels: { code: ['OK'] } });
    expect(() => counter.with({ code: 'made up by a caller' })).to.throw(
      'the label code of a metric cannot be "made up by a caller"',
    );
  });

  it('read observed gauges when they are asked for', async () => {
    const metrics = new Metrics();
    let value = 1;
    metrics.observedGauge({ name: 'obraz_waiting', help: 'Waiting.' }, () => value);
    value = 5;
    expect((await metrics.render()).body).to.include('obraz_waiting 5');
  });

  it('of two registries do not mix', async () => {
    const [one, other] = [new Metrics(), new Metrics()];
    for (const metrics of [one, other]) metrics.counter({ name: 'obraz_same_total', help: 'Same.' }).with({}).inc();
    expect((await other.render()).body).to.include('obraz_same_total 1');
  });

  it('tell of the process when asked to', async () => {
    const metrics = new Metrics();
    metrics.collectProcess();
    expect((await metrics.render()).body).to.include('process_resident_memory_bytes');
  });
});
