// Reads of the same moment share one query. The hot path is many concurrent reads of one row by id: a query each costs most of a
// server's rate, one query for all that arrived in the same turn of the event loop costs little. (Ratios: ARCHITECTURE.md.)
//
// A key never joins a query that was already sent: whoever asks after a commit sees it.

export interface CoalesceOptions {
  /** Most keys in one query. */
  maxBatch: number;
  /** Most queries at once; keys that come meanwhile wait and share the next one. Default: no bound of its own. */
  maxInFlight?: number;
}

interface Batch<Key, Value> {
  keys: Set<Key>;
  loaded: PromiseWithResolvers<ReadonlyMap<Key, Value>>;
}

/**
 * `const findImage = coalesce(loadImages, { maxBatch: 500 })`, then `await findImage(id)`: the value, or undefined when `loadMany`
 * answered none for the key. Equal keys get the same value object, so values are for reading only. When `loadMany` fails, everyone
 * who waited for it gets its error, and later calls start anew.
 */
export function coalesce<Key, Value>(
  loadMany: (keys: Key[]) => Promise<ReadonlyMap<Key, Value>>,
  { maxBatch, maxInFlight = Infinity }: CoalesceOptions,
): (key: Key) => Promise<Value | undefined> {
  /** Not sent yet; the last one still takes keys. */
  const waiting: Batch<Key, Value>[] = [];
  let inFlight = 0;
  let scheduled = false;

  const send = async ({ keys, loaded }: Batch<Key, Value>): Promise<void> => {
    try {
      loaded.resolve(await loadMany([...keys]));
    } catch (error) {
      loaded.reject(error);
    } finally {
      inFlight -= 1;
    }
    // Turns of the event loop have passed: what waits has waited long enough.
    sendWaiting();
  };

  const sendWaiting = (): void => {
    while (waiting.length > 0 && inFlight < maxInFlight) {
      inFlight += 1;
      void send(waiting.shift()!);
    }
  };

  const join = (key: Key): Batch<Key, Value> => {
    const open = waiting.at(-1);
    if (open !== undefined && (open.keys.size < maxBatch || open.keys.has(key))) {
      open.keys.add(key);
      return open;
    }
    const batch = { keys: new Set([key]), loaded: Promise.withResolvers<ReadonlyMap<Key, Value>>() };
    waiting.push(batch);
    if (!scheduled) {
      scheduled = true;
      // After the poll phase: all requests that one read of the sockets brought are in by then. Microtasks would run between them.
      setImmediate(() => {
        scheduled = false;
        sendWaiting();
      });
    }
    return batch;
  };

  return async (key) => (await join(key).loaded.promise).get(key);
}
