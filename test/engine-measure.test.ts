import { describe, expect, test } from 'vitest';
import { evenedOut, measureTable } from '../src/engine/measure.ts';
import type { InferenceEngine } from '../src/engine/engine.ts';

const NETWORKS = [
  { skip: 'TT', macs: 10, accuracy: 0.8 },
  { skip: 'FT', macs: 15, accuracy: 0.85 },
  { skip: 'TF', macs: 15, accuracy: 0.84 },
  { skip: 'FF', macs: 20, accuracy: 0.9 },
];

/** An engine that takes 1 ms and 0.1 ms for each unit of MACs, times the images' share. */
function engineOf(disturbed: (skip: string) => number = () => 1) {
  const runs: string[] = [];
  const engine = {
    workers: 1,
    run: async (_worker: number, { skip }: { skip: string }, images: readonly unknown[]) => {
      runs.push(`${skip} ${images.length}`);
      const { macs } = NETWORKS.find((network) => network.skip === skip)!;
      const workMs = (1 + 0.1 * macs) * (0.2 + 0.8 * images.length) * disturbed(skip);
      return { outputs: [], workMs };
    },
  } as unknown as InferenceEngine;
  const measure = (maxBatch: number) =>
    measureTable(engine, {
      ranked: NETWORKS,
      all: NETWORKS,
      maxBatch,
      sizes: [1, 2, 4, 8, 16, 32].filter((size) => size <= maxBatch),
      imageBytes: 3,
      signal: new AbortController().signal,
      pause: 0,
    });
  return { measure, runs };
}

describe('the latency table of a start', () => {
  test('interpolates what it did not measure, within a tenth', async () => {
    const { measure, runs } = engineOf();
    const table = await measure(32);
    for (const { skip, macs } of NETWORKS) {
      for (const [size, ms] of Object.entries(table[skip]!)) {
        const truth = (1 + 0.1 * macs) * (0.2 + 0.8 * Number(size));
        expect(Math.abs(ms / truth - 1)).toBeLessThan(0.1);
      }
    }
    expect(Object.keys(table['FF']!)).toEqual(['1', '2', '4', '8', '16', '32']);
    // Four runs of each alone, three networks with two more batch sizes.
    expect(runs.length).toBeLessThan(45);
  });

  test('one disturbed measurement does not take a sub-network off the front', async () => {
    const { measure } = engineOf((skip) => (skip === 'TT' ? 1.4 : 1));
    const table = await measure(8);
    expect(table['TT']![1]).toBeLessThan(table['FT']![1]!);
  });

  test('no batch is measured that would take for ever', async () => {
    const { measure, runs } = engineOf(() => 100);
    const table = await measure(32);
    expect(runs.some((run) => run.endsWith(' 32'))).toBe(false);
    // In proportion from there on.
    expect(table['FF']![32]! / table['FF']![16]!).toBeCloseTo(2, 1);
  });

  test('networks that measure in order of their MACs keep their times', () => {
    const exact = new Map(NETWORKS.map(({ skip, macs }) => [skip, 1 + macs]));
    for (const [skip, ms] of evenedOut(NETWORKS, exact)) expect(ms).toBeCloseTo(exact.get(skip)!);
  });
});
