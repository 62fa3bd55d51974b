// obraz.v1.ProgressService: how far an operation is. Beside the public API, which has no place for it.
import { setTimeout as delay } from 'node:timers/promises';
import type { GetProgressRequest } from '../../generated/obraz/v1/progress.ts';
import { authenticated } from '../iam/authorize.ts';
import type { Method, StreamMethod } from '../iam/call.ts';
import { DomainError } from '../platform/errors.ts';
import { authorizeOperation } from './authorize-operation.ts';
import { type ProgressMessage, toProgressMessage } from './operation.mapper.ts';
import { type OperationServiceParts, requireOperation } from './operation-service.ts';

export interface ProgressServiceParts extends Pick<OperationServiceParts, 'findOperation'> {
  /** Streams at once; further ones are refused with RESOURCE_EXHAUSTED. Default 1,000. */
  maxWatchers?: number;
  /** How often a stream looks; the looks of all streams share queries. Default 500 ms. */
  watchIntervalMs?: number;
}

/** Of the places for watchers, for one subject. */
const ownShare = 0.75;

export function progressMethods(parts: ProgressServiceParts) {
  return { get: getProgress(parts), watch: watchProgress(parts) };
}

const getProgress =
  ({ findOperation }: ProgressServiceParts): Method<GetProgressRequest, ProgressMessage> =>
  async ({ operationId }, call) => {
    const operation = await requireOperation(findOperation, operationId);
    await authorizeOperation(call, 'get', operation);
    return toProgressMessage(operation);
  };

function watchProgress({
  findOperation,
  maxWatchers = 1_000,
  watchIntervalMs = 500,
}: ProgressServiceParts): StreamMethod<GetProgressRequest, ProgressMessage> {
  let watchers = 0;
  /** By subject: one must not take all places. */
  const own = new Map<string, number>();
  return async function* ({ operationId }, call) {
    if (watchers >= maxWatchers) {
      throw new DomainError('RESOURCE_EXHAUSTED', `More than ${maxWatchers} operations are being watched here; ask with Get`);
    }
    const { id } = authenticated(call);
    const ownWatchers = own.get(id) ?? 0;
    if (ownWatchers >= maxWatchers * ownShare) {
      throw new DomainError('RESOURCE_EXHAUSTED', `You are watching ${ownWatchers} operations here; ask for others with Get`);
    }
    own.set(id, ownWatchers + 1);
    watchers += 1;
    try {
      let shown: ProgressMessage | undefined;
      while (!call.signal.aborted) {
        const operation = await requireOperation(findOperation, operationId);
        // Each time: who loses the right to see it sees no more of it.
        await authorizeOperation(call, 'get', operation);
        const now = toProgressMessage(operation);
        if (shown === undefined || isNews(now, shown)) yield (shown = now);
        if (now.done) return;
        await delay(watchIntervalMs, undefined, { signal: call.signal }).catch(() => {});
      }
    } finally {
      watchers -= 1;
      const left = own.get(id)! - 1;
      if (left === 0) own.delete(id);
      else own.set(id, left);
    }
  };
}

const isNews = (now: ProgressMessage, shown: ProgressMessage): boolean =>
  now.done !== shown.done || now.updatedAt?.getTime() !== shown.updatedAt?.getTime();
