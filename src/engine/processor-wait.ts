import { openSync, readSync } from 'node:fs';
import { performance } from 'node:perf_hooks';

/**
 * How long the calling thread has been ready to run while others had the processor, so far, in ms.
 * Taken off a batch's time, what is left is the batch's own: it does not grow with the work of
 * other threads and programs, which says nothing of other batches.
 *
 * Linux counts it for each thread (`Documentation/scheduler/sched-stats.rst`); where it is not
 * told, it is 0.
 */
export function processorWait(): () => number {
  try {
    // Whose thread it is, is settled when it is opened. Node closes it when a worker thread ends.
    const file = openSync('/proc/thread-self/schedstat', 'r');
    const buffer = Buffer.alloc(64);
    const waited = () => {
      const length = readSync(file, buffer, 0, buffer.length, 0);
      // Time on the processor and time ready for it, in ns; number of time slices.
      return Number(buffer.toString('latin1', 0, length).split(' ')[1]) / 1e6;
    };
    return Number.isFinite(waited()) ? waited : () => 0;
  } catch {
    return () => 0;
  }
}

/**
 * Begins to time what the calling thread does.
 *
 * @param waited of `processorWait`.
 * @returns what it took so far, in ms: work, and waits for a core.
 */
export function stopwatch(
  waited: () => number,
  now = () => performance.now(),
): () => { workMs: number; waitMs: number } {
  const started = now();
  const before = waited();
  return () => {
    // The clock is read first and last: a wait outside of its time would make work negative.
    const waitMs = waited() - before;
    return { workMs: now() - started - waitMs, waitMs };
  };
}
