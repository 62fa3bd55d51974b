// The threads of the process in which files are read, written and synced, for all of its JavaScript threads together. Node's default of
// four is taken up by four syncs, and then a client's read waits for somebody else's disk.

/** Most of them wait for a disk, not for a processor. More than all puts at once take up (44: storage/threads, images/import). */
const systemThreads = 48;

/** Takes effect before the first use of a file by a promise or callback only. What the operator has set himself counts. */
export function widenSystemThreads(): void {
  process.env['UV_THREADPOOL_SIZE'] ??= String(systemThreads);
}
