// How often something may be done, by key: each key has a bucket of `burst` tokens that fills again at a rate. Memory is bounded: a key
// that has not been seen for as long as an empty bucket takes to fill is forgotten, which changes nothing, and when there are too many
// keys at once, those that were not seen lately are.
//
// Cheap enough for every call: a look-up in a map, no timer, no allocation for a key that is known. (The bucket is kept as one instant: when it
// will be full again. GCRA, ITU-T I.371.)

export interface BucketOptions {
  /** Tokens that come back per second; 0 means: there is no limit. */
  perSecond: number;
  /** Most that can be taken at once. */
  burst: number;
  /** Keys that are remembered: twice as many buckets at most. */
  maxKeys: number;
  /** Milliseconds that never jump; for tests. */
  now?: () => number;
}

interface Bucket {
  /** Monotonic ms: when it is full. In the past: it is. */
  fullAt: number;
}

export class TokenBuckets {
  readonly #intervalMs: number;
  /** An empty bucket is full again after it. */
  readonly #fillMs: number;
  readonly #maxKeys: number;
  readonly #now: () => number;
  /** Keys seen in the present period, and those of the one before. */
  #current = new Map<string, Bucket>();
  #previous = new Map<string, Bucket>();
  #periodEndsAt: number;

  constructor({ perSecond, burst, maxKeys, now = () => performance.now() }: BucketOptions) {
    this.#intervalMs = perSecond === 0 ? 0 : 1000 / perSecond;
    this.#fillMs = this.#intervalMs * burst;
    this.#maxKeys = maxKeys;
    this.#now = now;
    this.#periodEndsAt = now() + this.#fillMs;
  }

  /** Takes a token: 0 when there was one, else how long it takes until there is one, in ms. */
  take(key: string): number {
    if (this.#intervalMs === 0) return 0;
    const now = this.#now();
    const bucket = this.#bucketOf(key, now);
    const fullAt = Math.max(bucket.fullAt, now) + this.#intervalMs;
    const missingMs = fullAt - this.#fillMs - now;
    // What one token is made of may be a rounding error larger than the bucket.
    if (missingMs > 1e-6) return missingMs;
    bucket.fullAt = fullAt;
    return 0;
  }

  /** How long it takes until there is a token, in ms; 0 when there is one. Takes none. */
  waitMs(key: string): number {
    if (this.#intervalMs === 0) return 0;
    const now = this.#now();
    const missingMs = Math.max(this.#bucketOf(key, now).fullAt, now) + this.#intervalMs - this.#fillMs - now;
    return missingMs > 1e-6 ? missingMs : 0;
  }

  /**
   * Takes a token though there may be none: what is known only afterwards. The bucket then owes it, so that the rate holds all the same.
   * (What is owed for longer than an empty bucket takes to fill is forgotten with a key that is not seen meanwhile.)
   */
  charge(key: string): void {
    if (this.#intervalMs === 0) return;
    const now = this.#now();
    const bucket = this.#bucketOf(key, now);
    bucket.fullAt = Math.max(bucket.fullAt, now) + this.#intervalMs;
  }

  #bucketOf(key: string, now: number): Bucket {
    if (now >= this.#periodEndsAt) this.#nextPeriod(now);
    const known = this.#current.get(key);
    if (known !== undefined) return known;
    if (this.#current.size >= this.#maxKeys) this.#nextPeriod(now);
    const bucket = this.#previous.get(key) ?? { fullAt: now };
    this.#current.set(key, bucket);
    return bucket;
  }

  /** What was seen in neither of two periods is full again by now. */
  #nextPeriod(now: number): void {
    this.#previous = this.#current;
    this.#current = new Map();
    this.#periodEndsAt = now + this.#fillMs;
  }
}
