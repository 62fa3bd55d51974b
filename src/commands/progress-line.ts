// How far a command is, on standard error: a line that is written over on a terminal; elsewhere a line now and then.
const elsewhereMs = 10_000;

export class ProgressLine implements Disposable {
  readonly #isTerminal = process.stderr.isTTY;
  #nextAt = performance.now() + elsewhereMs;
  #shown = '';

  show(text: string): void {
    if (this.#isTerminal) {
      process.stderr.write(`\r${text.padEnd(this.#shown.length)}`);
      this.#shown = text;
      return;
    }
    if (performance.now() < this.#nextAt) return;
    this.#nextAt = performance.now() + elsewhereMs;
    process.stderr.write(`${text}\n`);
  }

  /** Makes room for what is printed next. */
  [Symbol.dispose](): void {
    if (this.#shown !== '') process.stderr.write(`\r${' '.repeat(this.#shown.length)}\r`);
    this.#shown = '';
  }
}
