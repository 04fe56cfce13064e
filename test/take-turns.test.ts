import { readFileSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { describe, expect, test } from 'vitest';
import { startServer } from './server.ts';
import { cores } from './tools.ts';

const linux = process.platform === 'linux';
if (!linux) console.warn("skipping batch scheduling: it is Linux's");
if (availableParallelism() < 2) console.warn('skipping what takes two cores');

const SCHED_BATCH = 3;

/** Scheduling policies of a process's threads, the main one first (`man 5 proc`, field 41 of `stat`). */
function policies(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) => {
    const [, fields] = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8').split(') ');
    return Number(fields!.split(' ')[38]);
  });
}

async function policiesOnCores(count: number, env: Record<string, string> = {}) {
  const onCores = { node: '/usr/bin/taskset', nodeOptions: ['-c', cores(count), process.execPath] };
  const server = await startServer({ ENGINE_WORKERS: '1', ...env }, onCores);
  try {
    return policies(server.process.pid!);
  } finally {
    await server.stop();
  }
}

describe.skipIf(!linux)('a request that comes in', () => {
  test('does not interrupt an inference on one core', async () => {
    expect((await policiesOnCores(1))[0]).toBe(SCHED_BATCH);
  });

  test('does so where chrt is missing, and the server starts all the same', async () => {
    expect((await policiesOnCores(1, { PATH: '/nowhere' })).every((each) => each === 0)).toBe(true);
  });

  test.skipIf(availableParallelism() < 2)('has a core of its own on two', async () => {
    expect((await policiesOnCores(2)).every((each) => each === 0)).toBe(true);
  });
});
