import { expect } from 'chai';
import { createJobMetrics } from '../../../src/operations/job-metrics.ts';
import { Metrics } from '../../../src/platform/metrics.ts';

describe('Metrics of jobs', () => {
  it('tell what runs, how long it waited and how it ended', async () => {
    const metrics = new Metrics();
    const jobs = createJobMetrics(metrics, ['image.import', 'image.delete']);
    jobs.started!('image.import');
    jobs.started!('image.import');
    jobs.claimed!('image.import', 4);
    jobs.left!('image.import', 'done', 1_500);
    const { body } = await metrics.render();
    expect(body).to.include('obraz_jobs_running{kind="image.import"} 1');
    expect(body).to.include('obraz_job_wait_seconds_bucket{le="0.005",kind="image.import"} 1');
    expect(body).to.include('obraz_job_attempt_seconds_sum{kind="image.import",outcome="done"} 1.5');
  });

  it('refuse a kind that no handler has', () => {
    expect(() => createJobMetrics(new Metrics(), ['a']).started!('b')).to.throw(/cannot be "b"/);
  });
});
