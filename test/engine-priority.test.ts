import { readFileSync, readdirSync } from 'node:fs';
import { availableParallelism, getPriority } from 'node:os';
import { expect, it } from 'vitest';
import { startServer } from './server.ts';
import { cores } from './tools.ts';

const linux = process.platform === 'linux';
if (!linux) console.warn("skipping the engines' priority: threads have one on Linux only");

/** Of each thread of a process, as `nice` counts (`man 5 proc`, field 19 of `stat`). */
function priorities(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) => {
    const [, fields] = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8').split(') ');
    return Number(fields!.split(' ')[16]);
  });
}

const CASES = [
  ['on one core, it yields to the thread that speaks HTTP', 1, 1],
  ['on two, it does not', 2, 0],
] as const;

it.skipIf(!linux).each(CASES.filter(([, count]) => count <= availableParallelism()))(
  'an engine: %s',
  async (_, count, lower) => {
    const onCores = { node: 'taskset', nodeOptions: ['-c', cores(count), process.execPath] };
    const server = await startServer({ ENGINE_WORKERS: '1' }, onCores);
    try {
      const below = priorities(server.process.pid!).filter((nice) => nice === getPriority() + 3);
      expect(below).toHaveLength(lower);
    } finally {
      await server.stop();
    }
  },
);
