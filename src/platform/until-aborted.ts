/** Waits for `promise`, but no longer than `signal` allows; the work itself goes on for others who wait for it. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  promise.catch(() => undefined);
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const refuse = () => reject(signal.reason as Error);
  signal.addEventListener('abort', refuse, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', refuse);
  }
}

/** Waits until every promise has settled, then throws the first error: nobody still writes into a buffer that the caller takes back. */
export async function settleAll(promises: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(promises)).find((outcome) => outcome.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}
