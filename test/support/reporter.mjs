// mocha's spec reporter, closed by one plain line that people and scripts can read: `12 passed, 0 failed, 1 skipped`.
import Mocha from 'mocha';

// oxlint-disable-next-line import/no-default-export -- mocha takes a reporter's default export
export default class SummaryReporter extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    runner.once(Mocha.Runner.constants.EVENT_RUN_END, () => {
      const { passes, failures, pending } = runner.stats;
      console.log(`${passes} passed, ${failures} failed, ${pending} skipped`);
    });
  }
}
