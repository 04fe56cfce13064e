import { describe, expect, test } from 'vitest';
import { evenedOut, measureTable, stillHolds } from '../src/engine/measure.ts';
import type { InferenceEngine } from '../src/engine/engine.ts';
import type { LatencyTable } from '../src/scheduler/latency.ts';
import type { Tier } from '../src/scheduler/policy.ts';

/** All combinations of four flags, each of which saves some MACs, for as much accuracy. */
const NETWORKS = Array.from({ length: 16 }, (_, flags) => {
  const saved = [5, 4, 6, 3].reduce((sum, macs, i) => sum + ((flags >> i) & 1) * macs, 0);
  const skip = [0, 1, 2, 3].map((i) => ((flags >> i) & 1 ? 'T' : 'F')).join('');
  return { skip, macs: 40 - saved, accuracy: 0.9 - saved / 200 };
});

/** An engine that takes 1 ms and 0.1 ms for each unit of MACs, times the images' share. */
function engineOf(
  disturbed: (skip: string, images: number) => number = () => 1,
  ranked: readonly Tier[] = NETWORKS,
) {
  const runs: string[] = [];
  const engine = {
    workers: 1,
    imageBytes: 3,
    run: async (_worker: number, { skip }: { skip: string }, images: readonly unknown[]) => {
      runs.push(`${skip} ${images.length}`);
      const { macs } = NETWORKS.find((network) => network.skip === skip)!;
      const workMs =
        (1 + 0.1 * macs) * (0.2 + 0.8 * images.length) * disturbed(skip, images.length);
      return { outputs: [], workMs };
    },
  } as unknown as InferenceEngine;
  const options = (maxBatch: number) => ({
    ranked,
    all: NETWORKS,
    maxBatch,
    sizes: [1, 2, 4, 8, 16, 32].filter((size) => size <= maxBatch),
    signal: new AbortController().signal,
    pause: 0,
  });
  const measure = (maxBatch: number) => measureTable(engine, options(maxBatch));
  const holds = (table: LatencyTable) => stillHolds(table, engine, options(8));
  return { measure, holds, runs };
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
    expect(Object.keys(table['FFFF']!)).toEqual(['1', '2', '4', '8', '16', '32']);
    // Four runs of each alone, and three networks with two more batch sizes.
    expect(runs.length).toBeLessThan(16 * 4 + 3 * 8);
  });

  test('what another sub-network is sure to beat runs once, and gets the time of its MACs', async () => {
    // Four flags of which one costs accuracy and the others none.
    const ranked = NETWORKS.map((tier) => ({
      ...tier,
      accuracy: tier.skip[0] === 'T' ? 0.8 : 0.9,
    }));
    const { measure, runs } = engineOf(() => 1, ranked);
    const table = await measure(8);
    const runsOf = (skip: string) => runs.filter((run) => run === `${skip} 1`).length;
    const timed = NETWORKS.filter(({ skip }) => runsOf(skip) > 1).map(({ skip }) => skip);
    // The deepest, too: it is one end of the line that gives the others their times.
    expect(timed).toEqual(['FFFF', 'FTTT', 'TTTT']);
    for (const { skip, macs } of NETWORKS) {
      expect(runsOf(skip)).toBeGreaterThan(0);
      expect(table[skip]![1]).toBeCloseTo(1 + 0.1 * macs);
    }
  });

  test('one disturbed measurement does not take a sub-network off the front', async () => {
    const { measure } = engineOf((skip) => (skip === 'TTTT' ? 1.15 : 1));
    const table = await measure(8);
    // Its neighbour is deeper by three units of MACs.
    expect(table['TTTT']![1]).toBeLessThan(table['TTTF']![1]!);
  });

  test('the first run of each size, for which memory is allocated, is not counted', async () => {
    const seen = new Set<string>();
    const first = (skip: string, images: number) => {
      const isFirst = !seen.has(`${skip} ${images}`);
      seen.add(`${skip} ${images}`);
      return isFirst ? 5 : 1;
    };
    const { measure } = engineOf(first);
    const table = await measure(32);
    for (const { skip } of NETWORKS) {
      expect(table[skip]![32]! / table[skip]![1]!).toBeCloseTo(0.2 + 0.8 * 32, 1);
    }
  });

  test('no batch is measured that would take for ever', async () => {
    const { measure, runs } = engineOf(() => 100);
    const table = await measure(32);
    expect(runs.some((run) => run.endsWith(' 32'))).toBe(false);
    // In proportion from there on.
    expect(table['FFFF']![32]! / table['FFFF']![16]!).toBeCloseTo(2, 1);
  });

  test('networks that measure in order of their MACs keep their times', () => {
    const exact = new Map(NETWORKS.map(({ skip, macs }) => [skip, 1 + macs]));
    for (const [skip, ms] of evenedOut(NETWORKS, exact)) expect(ms).toBeCloseTo(exact.get(skip)!);
  });
});

describe('a latency table of an earlier start', () => {
  test('holds on the same machine, after a few runs', async () => {
    const { measure, holds, runs } = engineOf();
    const table = await measure(8);
    runs.length = 0;
    expect(await holds(table)).toBe(true);
    expect(runs.length).toBeLessThan(10);
  });

  test('does not hold where batches take twice or half as long, nor for other networks', async () => {
    const table = await engineOf().measure(8);
    expect(await engineOf(() => 2).holds(table)).toBe(false);
    expect(await engineOf(() => 0.5).holds(table)).toBe(false);
    const { FFFF: _, ...others } = table;
    expect(await engineOf().holds(others)).toBe(false);
  });
});
