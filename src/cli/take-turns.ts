import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import type { Logger } from 'pino';

/**
 * On one core, each request that comes in interrupts the inference that runs, hundreds of times a
 * second, and each time both find the caches full of the other's data. As a batch process
 * (SCHED_BATCH, `man 7 sched`) a thread waits for its turn, some ms, and then reads all that has
 * come. Threads that are started later do the same. bench/history.md has what it brings.
 *
 * Node cannot ask for that; `chrt`, a part of every Debian, can. Where it is missing or forbidden,
 * the server is slower in overload and nothing else.
 */
export function takeTurns(log: Logger): void {
  if (process.platform !== 'linux' || availableParallelism() > 1) return;
  // The short names: busybox knows no others.
  execFile('chrt', ['-b', '-p', '0', String(process.pid)], (error) => {
    if (error) log.info({ reason: error.message }, 'no batch scheduling');
  });
}
