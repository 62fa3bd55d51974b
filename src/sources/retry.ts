// How failed requests are tried again: bounded, with growing pauses, and as the server asks.
import { setTimeout as pause } from 'node:timers/promises';

export interface RetryRules {
  /** Attempts in a row that bring nothing; the first counts. */
  maxAttempts: number;
  firstPauseMs: number;
  maxPauseMs: number;
  /** A server that asks for more patience (Retry-After) gets this much. */
  maxRetryAfterMs: number;
  /**
   * A server that cannot be reached is tried for this long, however each attempt fails: an open, a closed and a filtered port
   * cannot be told apart by the time that it takes.
   */
  unreachableMs: number;
}

export const defaultRetryRules: RetryRules = {
  maxAttempts: 6,
  firstPauseMs: 250,
  maxPauseMs: 8000,
  maxRetryAfterMs: 60_000,
  unreachableMs: 10_000,
};

/** Milliseconds before attempt number `attempt` + 1 (attempts count from 1): doubling, with up to half of it at random. */
export function pauseMs(rules: RetryRules, attempt: number, retryAfterMs?: number): number {
  if (retryAfterMs !== undefined) return Math.min(retryAfterMs, rules.maxRetryAfterMs);
  const fullMs = Math.min(rules.firstPauseMs * 2 ** (attempt - 1), rules.maxPauseMs);
  return fullMs * (0.5 + Math.random() / 2);
}

/** @throws signal.reason when aborted meanwhile. */
export async function sleep(durationMs: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await pause(durationMs, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** Request Timeout, Too Early, Too Many Requests, and what a server says of its own trouble, except that it cannot do it at all. */
export const isPassingStatus = (status: number): boolean =>
  status === 408 || status === 425 || status === 429 || (status >= 500 && status !== 501 && status !== 505);
