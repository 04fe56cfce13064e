import { readdirSync } from 'node:fs';
import { availableParallelism, constants, getPriority, setPriority } from 'node:os';
import { setFlagsFromString } from 'node:v8';

/*
 * Imported for its effect, before everything else; bench/history.md has what it brings.
 */

/**
 * Collecting young objects with helper threads only adds thread switches where there is one core.
 * The other helpers of the garbage collector can't be turned off at run time.
 */
if (availableParallelism() === 1) setFlagsFromString('--no-parallel-scavenge');

/**
 * Full collections begin when memory has grown by this much, percent. By default that is 10 for a
 * program that mostly waits: at a hundred photos a second, two collections a second.
 */
setFlagsFromString('--heap-growing-percent=400');

/**
 * Optimised code takes less of what it calls into itself than V8 would have it: the less code, the
 * less of it has been driven out of the processor's caches by an inference since the last request.
 *
 * `--max-inlined-bytecode-size` is on Node's command line: V8 asks it twice while a thread compiles,
 * and aborts the process when a function that was small enough is not any more (Node 20, seen once).
 */
setFlagsFromString('--max-inlined-bytecode-size-cumulative=200');

/** How far below this thread V8's helpers are, as `nice` counts; bench/history.md weighs other values. */
const HELPERS_BELOW = 14;

/**
 * V8's four helper threads compile what has become hot. On one core they take it, each as much as
 * the thread that serves, from the requests that they compile for. Linux counts priorities by
 * thread; no other threads than V8's, Node's sleeping ones and this one exist so early.
 */
if (availableParallelism() === 1 && process.platform === 'linux') {
  for (const thread of readdirSync('/proc/self/task').map(Number)) {
    if (thread === process.pid) continue;
    try {
      setPriority(thread, Math.min(getPriority() + HELPERS_BELOW, constants.priority.PRIORITY_LOW));
    } catch {
      // It has ended, or the platform forbids it: a matter of speed alone.
    }
  }
}

/**
 * V8 optimises a function only after it has run for a while: in Node 20 after 66 KiB of its
 * bytecode, several times over, in Node 22 after 3,000 calls. At a hundred requests a second that
 * is half a minute and more, in which an answer costs half as much again.
 *
 * To be called when all is loaded: what runs until then would be compiled, too, and never again be
 * used. The flag holds for all threads.
 */
export function compileSooner(): void {
  const isNode20 = process.versions.v8.startsWith('11.');
  const flag = isNode20 ? '--interrupt-budget=10000' : '--invocation-count-for-turbofan=400';
  setFlagsFromString(flag);
}
