import { execFileSync, spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { expect, it } from 'vitest';
import { cores } from './tools.ts';

const linux = process.platform === 'linux';
if (!linux) console.warn("skipping the priorities of threads: they are Linux's");
if (availableParallelism() < 2) console.warn('skipping what takes two cores');

/** Prints the priority of the process and those of its threads, as `nice` counts. */
const PRIORITIES = `
  import { readdirSync } from 'node:fs';
  import { getPriority } from 'node:os';
  await import('./dist/v8-tuning.js');
  const nice = readdirSync('/proc/self/task').map((thread) => getPriority(Number(thread)));
  console.log(JSON.stringify({ own: getPriority(), nice }));
`;

function priorities(count: number): { own: number; nice: number[] } {
  const script = ['--input-type=module', '-e', PRIORITIES];
  const output = execFileSync('taskset', ['-c', cores(count), process.execPath, ...script]);
  return JSON.parse(output.toString()) as { own: number; nice: number[] };
}

it.skipIf(!linux)('on one core, V8 compiles with what is left over', () => {
  const { own, nice } = priorities(1);
  const below = Math.min(own + 14, 19);
  expect(nice.filter((each) => each === below).length).toBeGreaterThanOrEqual(4);
  expect(nice.filter((each) => each === own).length).toBeGreaterThanOrEqual(1);
});

it.skipIf(!linux || availableParallelism() < 2)(
  'on more cores, all its threads have one priority',
  () => {
    const { own, nice } = priorities(2);
    expect(nice.every((each) => each === own)).toBe(true);
  },
);

it('V8 knows every flag', () => {
  const script = "(await import('./dist/v8-tuning.js')).compileSooner()";
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
  expect({ status, stderr: stderr.toString() }).toEqual({ status: 0, stderr: '' });
});
