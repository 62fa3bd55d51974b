import { expect } from 'chai';
import * as fc from 'fast-check';
import { ProgressMeter } from '../../../src/operations/progress-meter.ts';

describe('ProgressMeter', () => {
  it('smooths the rate over the last measurements', () => {
    const meter = new ProgressMeter();
    meter.report({ bytesDone: 0, bytesTotal: 10_000, phase: 'importing' });
    expect(meter.take(0)).to.deep.equal({ bytesDone: 0, bytesTotal: 10_000, bytesPerSecond: 0, phase: 'importing' });
    meter.report({ bytesDone: 1_000 });
    expect(meter.take(1_000).bytesPerSecond).to.equal(1_000);
    meter.report({ bytesDone: 1_000 });
    expect(meter.take(2_000).bytesPerSecond).to.equal(700);
  });

  it('keeps what a report leaves out', () => {
    const meter = new ProgressMeter();
    meter.report({ bytesDone: 5, bytesTotal: 10, phase: 'a' });
    meter.report({ phase: 'b' });
    expect(meter.take(0)).to.include({ bytesDone: 5, bytesTotal: 10, phase: 'b' });
  });

  it('starts the rate anew when the work has fallen back', () => {
    const meter = new ProgressMeter();
    meter.report({ bytesDone: 0 });
    meter.take(0);
    meter.report({ bytesDone: 500 });
    meter.take(1_000);
    meter.report({ bytesDone: 100 });
    expect(meter.take(2_000).bytesPerSecond).to.equal(0);
    meter.report({ bytesDone: 300 });
    expect(meter.take(3_000).bytesPerSecond).to.equal(200);
  });

  it('never tells more done than there is, nor a negative or broken rate', () => {
    const report = fc.record({ bytesDone: fc.nat(), bytesTotal: fc.nat(), elapsedMs: fc.nat(5_000) });
    fc.assert(
      fc.property(fc.array(report), (reports) => {
        const meter = new ProgressMeter();
        let nowMs = 0;
        for (const { bytesDone, bytesTotal, elapsedMs } of reports) {
          meter.report({ bytesDone, bytesTotal });
          const told = meter.take((nowMs += elapsedMs));
          expect(Number.isSafeInteger(told.bytesPerSecond) && told.bytesPerSecond >= 0).to.equal(true);
          if (told.bytesTotal > 0) expect(told.bytesDone).to.be.at.most(told.bytesTotal);
        }
      }),
    );
  });
});
