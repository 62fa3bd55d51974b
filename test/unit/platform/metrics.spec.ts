import { expect } from 'chai';
import { Metrics } from '../../../src/platform/metrics.ts';

describe('Metrics', () => {
  it('are shown in the text format, one series per set of labels', async () => {
    const metrics = new Metrics();
    const counter = metrics.counter({ name: 'obraz_calls_total', help: 'Calls.', labels: { code: ['OK', 'NOT_FOUND'] } });
    counter.with({ code: 'OK' }).inc();
    counter.with({ code: 'OK' }).inc(2);
    metrics.gauge({ name: 'obraz_open', help: 'Open.' }).with({}).set(7);
    const seconds = metrics.histogram({
      name: 'obraz_call_seconds',
      help: 'Time.',
      buckets: [0.1, 1],
      labels: { method: ['Get'] },
    });
    for (const value of [0.1, 0.5, 0.5, 3]) seconds.with({ method: 'Get' }).observe(value);
    const { body, contentType } = await metrics.render();
    expect(contentType).to.match(/^text\/plain/);
    expect(body).to.include('obraz_calls_total{code="OK"} 3').and.to.not.include('NOT_FOUND');
    expect(body).to.include('obraz_open 7');
    expect(body.split('\n').filter((line) => line.includes('obraz_call_seconds'))).to.deep.equal([
      '# HELP obraz_call_seconds Time.',
      '# TYPE obraz_call_seconds histogram',
      'obraz_call_seconds_bucket{le="0.1",method="Get"} 1',
      'obraz_call_seconds_bucket{le="1",method="Get"} 3',
      'obraz_call_seconds_bucket{le="+Inf",method="Get"} 4',
      'obraz_call_seconds_sum{method="Get"} 4.1',
      'obraz_call_seconds_count{method="Get"} 4',
    ]);
  });

  it('refuse label values that were not listed, so that input cannot add series', () => {
    const counter = new Metrics().counter({ name: 'obraz_calls_total', help: 'Calls.', labels: { code: ['OK'] } });
    const withLabels = (labels: object) => () => counter.with(labels as { code: string });
    expect(withLabels({ code: 'made up by a caller' })).to.throw(
      'obraz_calls_total: the label code cannot be "made up by a caller"',
    );
    expect(withLabels({})).to.throw('the label code cannot be "undefined"');
    expect(withLabels({ code: 'OK', more: 'x' })).to.throw('the label more cannot be "x"');
  });

  it('give the same series to everyone who asks for the same labels, and one name to one metric', () => {
    const metrics = new Metrics();
    const options = { name: 'obraz_open', help: 'Open.', labels: { kind: ['a', 'b'] } };
    const gauge = metrics.gauge(options);
    expect(gauge.with({ kind: 'a' }))
      .to.equal(gauge.with({ kind: 'a' }))
      .and.not.to.equal(gauge.with({ kind: 'b' }));
    expect(() => metrics.counter(options)).to.throw('obraz_open has already been registered');
  });

  it('read observed counters when they are asked for, each series its own', async () => {
    const metrics = new Metrics();
    const kept = { reads: 1, writes: 2 };
    metrics.observedCounter({ name: 'obraz_requests_total', help: 'Requests.', labels: { command: ['read', 'write'] } }, [
      { labels: { command: 'read' }, read: () => kept.reads },
      { labels: { command: 'write' }, read: () => kept.writes },
    ]);
    kept.writes = 7;
    const { body } = await metrics.render();
    expect(body).to.include('# TYPE obraz_requests_total counter');
    expect(body).to.include('obraz_requests_total{command="read"} 1\nobraz_requests_total{command="write"} 7');
    const other = () =>
      metrics.observedCounter({ name: 'obraz_others_total', help: 'Others.', labels: { command: ['read'] } }, [
        { labels: { command: 'write' }, read: () => 0 },
      ]);
    expect(other).to.throw('the label command cannot be "write"');
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
