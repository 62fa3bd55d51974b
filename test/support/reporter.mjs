// mocha's spec reporter, closed by one plain line that people and scripts can read: `12 passed, 0 failed, 1 skipped`. Where tests may be
// tried again (`--retries`), a test that needed it is named at the end with why: it passes, and is a fault all the same.
import Mocha from 'mocha';

// oxlint-disable-next-line import/no-default-export -- mocha takes a reporter's default export
export default class SummaryReporter extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    const retried = [];
    runner.on(Mocha.Runner.constants.EVENT_TEST_RETRY, (test, error) => {
      retried.push(`RETRIED: ${test.fullTitle()}\n  ${error?.stack ?? error}`);
    });
    runner.once(Mocha.Runner.constants.EVENT_RUN_END, () => {
      for (const text of retried) console.log(text);
      const { passes, failures, pending } = runner.stats;
      console.log(`${passes} passed, ${failures} failed, ${pending} skipped`);
    });
  }
}
