import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { performance } from 'node:perf_hooks';
import { describe, expect, test } from 'vitest';
import { processorWait } from '../src/engine/processor-wait.ts';

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
