import type { ProgressReport } from './job-handler.ts';

/** How much of each new measurement goes into the rate: about the last five seconds count when it is taken every second. */
const weight = 0.3;

/** The progress of one job: the last that it told, and a rate smoothed over a few seconds. Times are monotonic, ms. */
export class ProgressMeter {
  bytesDone = 0;
  bytesTotal = 0;
  phase = 'running';
  /** True when something was told since the last `take`. */
  isFresh = false;
  #bytesPerSecond = 0;
  #last: { bytesDone: number; atMs: number } | undefined;

  report({ bytesDone, bytesTotal, phase }: ProgressReport): void {
    if (bytesTotal !== undefined) this.bytesTotal = bytesTotal;
    if (bytesDone !== undefined) this.bytesDone = bytesDone;
    if (phase !== undefined) this.phase = phase;
    // Clients are promised that done is never beyond a total that is known.
    if (this.bytesTotal > 0 && this.bytesDone > this.bytesTotal) this.bytesDone = this.bytesTotal;
    this.isFresh = true;
  }

  /** What is to be written now; takes a measurement of the rate. */
  take(nowMs: number): { bytesDone: number; bytesTotal: number; bytesPerSecond: number; phase: string } {
    this.isFresh = false;
    const { bytesDone, bytesTotal, phase } = this;
    if (this.#last === undefined || bytesDone < this.#last.bytesDone) {
      this.#last = { bytesDone, atMs: nowMs };
      this.#bytesPerSecond = 0;
    } else if (nowMs > this.#last.atMs) {
      const rate = ((bytesDone - this.#last.bytesDone) * 1000) / (nowMs - this.#last.atMs);
      this.#bytesPerSecond = this.#bytesPerSecond === 0 ? rate : this.#bytesPerSecond * (1 - weight) + rate * weight;
      this.#last = { bytesDone, atMs: nowMs };
    }
    return { bytesDone, bytesTotal, bytesPerSecond: Math.round(this.#bytesPerSecond), phase };
  }
}
