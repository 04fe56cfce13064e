import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { performance } from 'node:perf_hooks';
import { describe, expect, test } from 'vitest';
import { processorWait, stopwatch } from '../src/engine/processor-wait.ts';

/** Keeps this thread busy. */
function compute(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe.runIf(process.platform === 'linux')('how long a thread has waited for a core', () => {
  test('grows while others compute, and not while it sleeps', async () => {
    const waited = processorWait();
    const others = Array.from({ length: 2 * availableParallelism() }, () =>
      spawn(process.execPath, ['-e', 'process.stdout.write("!"); for (;;);']),
    );
    try {
      await Promise.all(
        others.map((other) => new Promise((resolve) => other.stdout.once('data', resolve))),
      );
      const before = waited();
      compute(500);
      const computing = waited() - before;
      // A third of the cores at most is this thread's.
      expect(computing).toBeGreaterThan(100);
      expect(computing).toBeLessThan(500);
    } finally {
      for (const other of others) other.kill('SIGKILL');
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
    const before = waited();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(waited() - before).toBeLessThan(100);
  });
});

test.each([0, 1, 2, 3, 4, 5, 6, 7])(
  'work is never negative, wherever the thread loses its core: %i',
  (lost) => {
    const clock = { now: 0, waited: 0 };
    let place = 0;
    const mayLoseCore = () => {
      if (place++ !== lost) return;
      clock.now += 3;
      clock.waited += 3;
    };
    // Before and after each of four readings.
    const read = (of: 'now' | 'waited') => () => {
      mayLoseCore();
      const value = clock[of];
      mayLoseCore();
      return value;
    };
    const took = stopwatch(read('waited'), read('now'));
    clock.now += 1;
    const { workMs, waitMs } = took();
    expect(place).toBe(8);
    expect(workMs).toBeGreaterThanOrEqual(1);
    expect(waitMs).toBeGreaterThanOrEqual(0);
  },
);
