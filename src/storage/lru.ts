/** A map of bounded weight that forgets what was not used for longest. A value heavier than the whole bound is not kept. */
export class Lru<Value> {
  readonly #maxWeight: number;
  readonly #weigh: (value: Value) => number;
  readonly #entries = new Map<string, Value>();
  readonly #onForgotten: (key: string) => void;
  #weight = 0;

  /** @param weigh the weight of a value, constant while it is kept; 1 each when not given. @param onForgotten hears of every entry that leaves. */
  constructor(
    maxWeight: number,
    weigh: (value: Value) => number = () => 1,
    onForgotten: (key: string) => void = () => undefined,
  ) {
    this.#maxWeight = maxWeight;
    this.#weigh = weigh;
    this.#onForgotten = onForgotten;
  }

  get weight(): number {
    return this.#weight;
  }

  get(key: string): Value | undefined {
    const value = this.#entries.get(key);
    if (value === undefined) return undefined;
    // A Map iterates in the order of insertion: what was used last goes to its end.
    this.#entries.delete(key);
    this.#entries.set(key, value);
    return value;
  }

  set(key: string, value: Value): void {
    this.delete(key);
    const weight = this.#weigh(value);
    if (weight > this.#maxWeight) return;
    this.#entries.set(key, value);
    this.#weight += weight;
    for (const oldest of this.#entries.keys()) {
      if (this.#weight <= this.#maxWeight) break;
      this.delete(oldest);
    }
  }

  delete(key: string): void {
    const value = this.#entries.get(key);
    if (value === undefined) return;
    this.#entries.delete(key);
    this.#weight -= this.#weigh(value);
    this.#onForgotten(key);
  }
}
