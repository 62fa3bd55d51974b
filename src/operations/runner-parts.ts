// What a runner is made of, and its bounds.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { AccessRules } from '../iam/access-control.ts';
import type { JobBell } from './job-bell.ts';
import type { JobHandler } from './job-handler.ts';

/** How a job left a runner. `done`: another job may go on with the operation; `lost`: another attempt has it; `given-back`: shutdown. */
export const jobOutcomes = ['done', 'failed', 'cancelled', 'postponed', 'given-back', 'lost'] as const;
export type JobOutcome = (typeof jobOutcomes)[number];

/** The log as far as it is used here (pino's shape). */
export interface JobLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Counts; kinds and outcomes are closed sets. Called synchronously; must not throw. */
export interface JobMetrics {
  /** A job was claimed `waitedMs` after it was due. (Not told of jobs that were cancelled before they ran.) */
  claimed?(kind: string, waitedMs: number): void;
  /** An attempt began; `left` tells its end. */
  started?(kind: string): void;
  left?(kind: string, outcome: JobOutcome, durationMs: number): void;
}

/** Durations in ms. The defaults are the design's (architecture, section 4); tests shorten them. */
export interface RunnerBounds {
  leaseMs: number;
  renewMs: number;
  /** A handler is aborted so long before its lease ends. */
  leaseMarginMs: number;
  pollMs: number;
  progressMs: number;
  /** Waiting for handlers to end at shutdown. */
  shutdownMs: number;
  firstBackOffMs: number;
  maxBackOffMs: number;
  /** Attempts in a row without a new checkpoint, before the operation ends as UNAVAILABLE. */
  maxStalledAttempts: number;
  /** The same for errors that are bugs, before it ends as INTERNAL. */
  maxBugAttempts: number;
  /** Attempts at all: what saves a new checkpoint every time and never arrives ends as well. */
  maxAttempts: number;
}

export const defaultBounds: RunnerBounds = {
  leaseMs: 15_000,
  renewMs: 5_000,
  leaseMarginMs: 2_000,
  pollMs: 1_000,
  progressMs: 1_000,
  shutdownMs: 10_000,
  firstBackOffMs: 1_000,
  maxBackOffMs: 60_000,
  maxStalledAttempts: 8,
  maxBugAttempts: 3,
  maxAttempts: 1_000,
};

export interface RunnerParts {
  /** An EntityManager outside of any transaction, fresh. */
  fork: () => EntityManager;
  bell: JobBell;
  /** Asked before every attempt for what the call that ordered the job was allowed. */
  access: AccessRules;
  handlers: readonly JobHandler[];
  /** Jobs that run at once in this process. */
  concurrency: number;
  /** Where to LISTEN for other processes' rings; without it they are seen by the poll. */
  listenUrl?: string;
  log: JobLog;
  metrics?: JobMetrics;
  bounds?: Partial<RunnerBounds>;
}

/** What the files of a runner share. */
export interface RunnerContext {
  readonly fork: () => EntityManager;
  readonly bell: JobBell;
  readonly access: AccessRules;
  readonly log: JobLog;
  readonly bounds: RunnerBounds;
}
