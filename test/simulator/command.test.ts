import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { command } from '../../bench/simulator/command.ts';
import { UsageError } from '../../src/cli/command.ts';

/** Exit code and what was printed. */
async function simulate(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const out = vi.spyOn(console, 'log').mockReturnValue();
  const err = vi.spyOn(console, 'error').mockReturnValue();
  const code = await command(args);
  return { code, out: out.mock.calls.join('\n'), err: err.mock.calls.join('\n') };
}

describe('npm run simulate', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'depthserve-simulate-'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true });
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  test('a trace, replayed faster, gives figures as JSON and a plot', async () => {
    const trace = join(folder, 'trace.csv');
    const [json, plot] = [join(folder, 'out.json'), join(folder, 'out.svg')];
    const lines = Array.from({ length: 200 }, (_, index) => String(index / 10));
    await writeFile(trace, `arrival_s\n${lines.join('\n')}\n`);
    const traffic = ['--trace', trace, '--scale', '10', '--budgets', '15,25,40'];
    const output = ['--json', json, '--plot', plot];
    const { code, out } = await simulate(
      ...traffic,
      '--policy',
      'slackfit',
      '--seed',
      '3',
      ...output,
    );
    expect([code, out]).toEqual([0, expect.stringMatching(/attainment +100\.00 %/)]);
    const figures = JSON.parse(await readFile(json, 'utf8')) as Record<string, number>;
    expect(figures).toMatchObject({ policy: 'slackfit', seed: 3, requests: 200, attainment: 1 });
    expect(figures['delivered']).toBeCloseTo(figures['attainment']! * figures['accuracy']!);
    for (const key of ['goodput', 'p50', 'p99']) expect(figures[key]).toBeGreaterThan(0);
    expect(figures).toHaveProperty('tierMix');
    expect(await readFile(plot, 'utf8')).toContain('</svg>');
  });

  test.each(['round-robin', 'least-loaded', 'power-of-two'])(
    'says how many replicas it takes (%s)',
    async (balancing) => {
      const args = ['--rate', '3000', '--seconds', '1', '--attainment', '0.99'];
      const { code, out } = await simulate(...args, '--balance', balancing);
      expect([code, out]).toEqual([0, expect.stringMatching(/\d replicas reach 99\.00 %/)]);
    },
  );

  test('a share that no number of replicas reaches: 1', async () => {
    const args = ['--budgets', '0.01', '--seconds', '1', '--attainment', '0.9'];
    const { code, err } = await simulate(...args);
    expect([code, err]).toEqual([1, expect.stringContaining('no number of replicas')]);
  });

  test.each([
    [['--policy', 'nope'], 'there are depthserve, slackfit'],
    [['--table', 'no/such.json'], 'no such file'],
    [['--table', 'package.json'], 'tiers'],
    [['--trace', 'package.json'], 'arrival_s'],
    [['--budgets', '10,x'], '--budgets'],
    [['--plot', 'out.png'], 'SVG'],
    [['--trace', 'x.csv', '--rate', '3'], 'exclude each other'],
    [['--no-such-option'], 'no-such-option'],
  ])('%j: wrong usage, and why', async (args, why) => {
    await expect(command(args)).rejects.toThrow(UsageError);
    await expect(command(args)).rejects.toThrow(why);
  });
});
