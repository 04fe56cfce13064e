import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../bench/simulator/clock.ts';
import { Deployment } from '../src/deployment.ts';
import type { ServingEngine } from '../src/deployment.ts';
import { remeasure } from '../src/remeasure.ts';
import { MeasuredLatency } from '../src/scheduler/latency.ts';
import type { LatencyTable } from '../src/scheduler/latency.ts';
import type { Tier } from '../src/scheduler/policy.ts';
import { PIXELS_PER_MS } from '../bench/simulator/run.ts';
import { fakeParts, jpegOf } from './fake-deployment.ts';

/** Of a deployment. */
const PROFILE = {
  name: 'test-model',
  tiers: [
    { skip: 'T', accuracy: 0.7, macs: 10 },
    { skip: 'F', accuracy: 0.8, macs: 20 },
  ],
  latency: { T: { 1: 10, 8: 40 }, F: { 1: 20, 8: 80 } },
  engineWorkers: 1,
  maxBatch: 8,
};

const NETWORKS = [
  { skip: 'TT', accuracy: 0.5, macs: 10 },
  { skip: 'TF', accuracy: 0.6, macs: 15 },
  { skip: 'FT', accuracy: 0.6, macs: 15 },
  { skip: 'FF', accuracy: 0.7, macs: 20 },
];
const TRUTH: Record<string, number> = { TT: 10, TF: 15, FT: 15, FF: 20 };
/** Of TT, three times as long as it takes. */
const DISTURBED: LatencyTable = {
  TT: { 1: 30, 8: 120 },
  TF: { 1: 15, 8: 60 },
  FT: { 1: 15, 8: 60 },
  FF: { 1: 20, 8: 80 },
};

/** Plays until `ms`, with `trial` instead of the engine. */
async function play(
  ms: number,
  trial: (skip: string, at: number) => number | null,
  tiers: readonly Tier[] = NETWORKS,
) {
  const clock = new VirtualClock();
  const end = new AbortController();
  clock.at(ms, () => end.abort(new Error('over')));
  const latency = new MeasuredLatency(DISTURBED);
  const runs: number[] = [];
  const what = {
    tiers,
    latency,
    async trial({ skip }: Tier) {
      const took = trial(skip, clock.now());
      if (took === null) return null;
      runs.push(clock.now());
      await new Promise<void>((resolve) => clock.at(clock.now() + took, resolve));
      return took;
    },
    changed: () => {},
  };
  let over: Promise<void> | undefined;
  clock.at(0, () => {
    over = remeasure(what, clock, end.signal);
  });
  await clock.run();
  await over;
  return { table: latency.table, runs };
}

describe('a latency table that was taken beside a busy neighbour', () => {
  test('is put right while nothing is asked; how times grow with the batch is kept', async () => {
    const { table } = await play(60_000, (skip) => TRUTH[skip]!);
    for (const { skip } of NETWORKS) {
      expect(table[skip]![1]! / TRUTH[skip]!).toBeCloseTo(1, 1);
      expect(table[skip]![8]! / table[skip]![1]!).toBeCloseTo(4);
    }
  });

  test('is put right by those that may be chosen: what another is sure to beat does not run', async () => {
    const beaten = NETWORKS.map((tier) => (tier.skip === 'FT' ? { ...tier, accuracy: 0.4 } : tier));
    const ran = new Set<string>();
    const trial = (skip: string) => {
      ran.add(skip);
      return 2 * TRUTH[skip]!;
    };
    const { table } = await play(60_000, trial, beaten);
    expect([...ran]).toEqual(['TT', 'TF', 'FF']);
    // It follows from its MACs.
    expect(table['FT']![1]! / (2 * TRUTH['FT']!)).toBeCloseTo(1, 1);
  });

  test('is replaced as a whole: rows of two measurements do not compare', async () => {
    // Beside TT only FF has changed, by less than two measurements may differ.
    const { table } = await play(60_000, (skip) => TRUTH[skip]! * (skip === 'FF' ? 1.14 : 1));
    expect(table['FF']![1]! / table['FT']![1]!).toBeGreaterThan((1.05 * 20) / 15);
  });

  test('is measured without what it takes to wake a core after a pause', async () => {
    let ranAt = -Infinity;
    const { table } = await play(60_000, (skip, at) => {
      const isAwake = at - ranAt < 100;
      ranAt = at;
      return TRUTH[skip]! + (isAwake ? 0 : 30);
    });
    expect(table['TT']![1]! / TRUTH['TT']!).toBeCloseTo(1, 1);
    expect(table['FF']![1]! / TRUTH['FF']!).toBeCloseTo(1, 1);
  });

  test('is left alone once two measurements agree, for ten minutes', async () => {
    const { runs } = await play(600_000, (skip) => TRUTH[skip]!);
    expect(runs.length).toBe(2 * 4 * 5);
    const again = await play(1_200_000, (skip) => TRUTH[skip]!);
    expect(again.runs.length).toBeGreaterThan(runs.length);
  });

  test('is measured ever more rarely where times scatter too much to agree', async () => {
    let runs = 0;
    const scattering = (skip: string) => TRUTH[skip]! * (Math.floor(runs++ / 20) % 2 ? 2 : 1);
    const first = await play(60_000, scattering);
    runs = 0;
    const later = await play(600_000, scattering);
    // Ten times as long, and less than three times as many.
    expect(later.runs.length).toBeLessThan(3 * first.runs.length);
  });

  test('waits for a time without work', async () => {
    const { table, runs } = await play(60_000, (skip, at) => (at < 10_000 ? null : TRUTH[skip]!));
    expect(Math.min(...runs)).toBeGreaterThanOrEqual(10_000);
    expect(table['TT']![1]! / TRUTH['TT']!).toBeCloseTo(1, 1);
  });

  test('takes a twentieth of the processor at most', async () => {
    const { runs } = await play(10_000, (skip) => TRUTH[skip]!);
    const busy = runs.length * 15;
    expect(busy / (runs.at(-1)! - runs[0]!)).toBeLessThan(0.06);
  });
});

describe('the front of a deployment', () => {
  const skips = (deployment: Deployment) => deployment.status().tiers.map(({ skip }) => skip);

  /** @param failures batches that fail, the first ones. */
  function start(failures = 0) {
    const clock = new VirtualClock();
    const parts = fakeParts(PROFILE, clock);
    let batches = 0;
    const engine: ServingEngine = {
      ...parts.engine,
      run: async (...batch) => {
        if (batches++ < failures) throw new Error('broken');
        return parts.engine.run(...batch);
      },
    };
    const table = { ...PROFILE.latency, T: { 1: 25, 8: 100 } };
    const deployment = new Deployment({ ...parts, engine, table });
    return { clock, deployment };
  }

  test.each([0, 3])('gets back what was measured too slow, after %i failures', async (failures) => {
    const { clock, deployment } = start(failures);
    expect(skips(deployment)).toEqual(['F']);
    clock.at(0, () => deployment.keepCurrent(jpegOf(1000)));
    clock.at(60_000, () => {
      expect(skips(deployment)).toEqual(['T', 'F']);
      void deployment.release();
    });
    await clock.run();
    expect.assertions(2);
  });

  test('is drawn again while it serves, from what batches really take', async () => {
    const { clock, deployment } = start();
    // Pinned requests show what each takes.
    for (let at = 0; at < 40_000; at += 100) {
      clock.at(at, () => {
        const skip = at % 400 === 0 ? 'T' : 'F';
        const request = { arrivedAt: at, budgetMs: 1000, minAccuracy: 0, skip };
        void deployment.classify([jpegOf(1000)], request);
      });
    }
    await clock.run();
    expect(skips(deployment)).toEqual(['T', 'F']);
  });

  test('a request that comes while a sub-network is timed is answered after that run', async () => {
    const { clock, deployment } = start();
    deployment.keepCurrent(jpegOf(1000));
    const asked = new Promise<number>((resolve) => {
      clock.at(1, () => {
        const request = { arrivedAt: 1, budgetMs: 500, minAccuracy: 0 };
        void deployment.classify([jpegOf(1000)], request).then(() => resolve(clock.now()));
      });
    });
    clock.at(5000, () => void deployment.release());
    await clock.run();
    expect(await asked).toBeLessThan(60);
  });
});

describe('a server that nobody asks', () => {
  test('knows what a request takes that finds cold caches', async () => {
    const clock = new VirtualClock();
    let ranAt = 0;
    const slowdown = (now: number) => {
      const isCold = now - ranAt > 1000;
      ranAt = now;
      return isCold ? 2 : 1;
    };
    const parts = fakeParts(PROFILE, clock, { slowdown });
    // What other formats take is no matter of JPEGs.
    parts.decodeTimes.observe({ format: 'png', pixels: 65_536 }, 50, 0);
    parts.decodeTimes.observe({ format: 'jpeg', pixels: 65_536 }, 1, 0);
    const deployment = new Deployment(parts);
    deployment.keepCurrent(jpegOf(1000));
    const hopeless = { budgetMs: 1, minAccuracy: 0, format: 'jpeg' };
    const named: number[] = [];
    for (const at of [1, 30_000]) {
      clock.at(at, () => {
        named.push(deployment.pipeline.preview({ ...hopeless, arrivedAt: at })!.smallestBudgetMs);
      });
    }
    clock.at(40_000, () => void deployment.release());
    await clock.run();
    expect(named[0]).toBeLessThan(20);
    // The network takes 20 ms then, besides decoding.
    expect(named[1]).toBeGreaterThan(20);
    expect(named[1]).toBeLessThan(22);
    expect(await parts.metrics.registry.metrics()).not.toMatch(
      /(batch|ratio)\w*_count\{.*\} [1-9]/,
    );
    expect(parts.decodeTimes.ofAny(0, 'jpeg')).toBe(1);
  });

  test('gives its own photo up when a caller comes', async () => {
    const clock = new VirtualClock();
    const ran: string[] = [];
    const dispatched = ({ skip }: Tier) => void ran.push(`${skip} ${clock.now()}`);
    const parts = fakeParts(PROFILE, clock, { decoders: 2, dispatched });
    const deployment = new Deployment(parts);
    // It takes 130 ms to decode, from 500 on.
    deployment.keepCurrent(jpegOf(130 * PIXELS_PER_MS));
    const pixels = [new Uint8Array(3)];
    const request = { arrivedAt: 550, budgetMs: 1000, minAccuracy: 0 };
    clock.at(550, () => void deployment.classifyPixels(pixels, request));
    clock.at(900, () => void deployment.release());
    await clock.run();
    const metrics = await parts.metrics.registry.metrics();
    expect(metrics).toMatch(/batch_size_count\{.*tier="F".*\} 1/);
    // Before, the engine is timed.
    expect(ran.filter((run) => Number(run.split(' ')[1]) >= 500)).toEqual(['F 550']);
  });
});
