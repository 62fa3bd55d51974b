// Errors between threads: structured clone loses classes, so they travel as plain data and are made anew on the other side.
import { type Code, DomainError, type ErrorDetail, TransientError } from './errors.ts';

export type PostedError =
  | { kind: 'domain'; code: Code; message: string; details: ErrorDetail[] }
  | { kind: 'transient'; message: string }
  | { kind: 'other'; message: string; stack: string | undefined };

export function toPosted(error: unknown): PostedError {
  if (error instanceof DomainError)
    return { kind: 'domain', code: error.code, message: error.message, details: [...error.details] };
  if (error instanceof TransientError) return { kind: 'transient', message: error.message };
  return error instanceof Error
    ? { kind: 'other', message: error.message, stack: error.stack }
    : { kind: 'other', message: String(error), stack: undefined };
}

export function fromPosted(posted: PostedError): Error {
  switch (posted.kind) {
    case 'domain':
      return new DomainError(posted.code, posted.message, posted.details);
    case 'transient':
      return new TransientError(posted.message);
    case 'other': {
      const error = new Error(posted.message);
      if (posted.stack !== undefined) error.stack = posted.stack;
      return error;
    }
  }
}
