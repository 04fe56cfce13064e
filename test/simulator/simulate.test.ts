import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import { constant, renewal, requests } from '../../bench/simulator/arrivals.ts';
import { balance } from '../../bench/simulator/balance.ts';
import { replicasFor } from '../../bench/simulator/capacity.ts';
import { summarise } from '../../bench/simulator/summary.ts';
import { parseOptions } from '../../bench/simulator/options.ts';
import { Random } from '../../bench/simulator/random.ts';
import { simulate } from '../../bench/simulator/run.ts';
import type { Setup } from '../../bench/simulator/run.ts';
import { plot } from '../../bench/simulator/plot.ts';
import { capacity, parseProfile } from '../../bench/simulator/tables.ts';
import type { Profile } from '../../bench/simulator/tables.ts';

const PROFILE: Profile = {
  name: 'test',
  tiers: [
    { skip: 'TT', accuracy: 0.8, macs: 10 },
    { skip: 'TF', accuracy: 0.86, macs: 15 },
    { skip: 'FF', accuracy: 0.9, macs: 20 },
  ],
  latency: { TT: { 1: 1, 16: 8.5 }, TF: { 1: 1.5, 16: 12.75 }, FF: { 1: 2, 16: 17 } },
  engineWorkers: 1,
  maxBatch: 16,
};

interface Given extends Partial<Setup> {
  readonly load?: number;
  readonly cv2?: number;
  readonly seconds?: number;
  readonly budgets?: readonly number[];
}

function setup(given: Given = {}): Setup {
  const { load = 0.8, cv2 = 1, seconds = 3, budgets = [15, 25, 40], ...rest } = given;
  const seed = given.seed ?? 1;
  const rate = load * capacity(PROFILE);
  const times = renewal(constant(rate), cv2, seconds * 1000, new Random(seed, 0));
  return {
    profile: PROFILE,
    policy: depthserve,
    requests: requests(times, budgets, [0], new Random(seed, 1)),
    seed,
    engines: 1,
    replicas: 1,
    balancing: 'round-robin',
    slowdowns: [],
    jitter: 0,
    ...rest,
  };
}

describe('a run', () => {
  test('is the same again for the same seed', async () => {
    const again = () => simulate(setup({ load: 1.2, cv2: 4, seconds: 1, jitter: 0.1 }));
    expect(await again()).toEqual(await again());
  });

  test('settles every request, in the order of arrival', async () => {
    const given = setup({ load: 3, cv2: 8, seconds: 1 });
    const outcomes = await simulate(given);
    expect(outcomes.map(({ request }) => request)).toEqual(given.requests);
  });

  test('reports what it did', async () => {
    const summary = summarise(await simulate(setup({ load: 2.5 })));
    expect(summary.delivered).toBeCloseTo(summary.attainment * summary.accuracy);
    expect(Object.values(summary.tierMix).reduce((a, b) => a + b)).toBeCloseTo(1);
    expect(summary.p50!).toBeLessThan(summary.p99!);
    expect(summary.refused).toBeGreaterThan(0);
  });

  test('of nothing is not an error', async () => {
    expect(summarise(await simulate({ ...setup(), requests: [] }))).toMatchObject({
      requests: 0,
      attainment: 0,
      p99: null,
    });
  });
});

describe('under the shipped policy', () => {
  const result = async (given: Setup) => summarise(await simulate(given));

  test('with time to spare everything is in time, most of it on the deepest', async () => {
    const { attainment, tierMix } = await result(setup({ load: 0.5 }));
    expect(attainment).toBe(1);
    expect(tierMix['FF']).toBeGreaterThan(0.98);
  });

  test('accuracy falls before answers do', async () => {
    const easy = await result(setup({ load: 0.8 }));
    const busy = await result(setup({ load: 1.4 }));
    const over = await result(setup({ load: 3 }));
    expect(busy.attainment).toBeGreaterThan(0.998);
    expect(busy.accuracy).toBeLessThan(easy.accuracy);
    expect(over.attainment).toBeLessThan(0.9);
    expect(over.accuracy).toBeCloseTo(0.8, 2);
  });

  test('goodput does not collapse far beyond capacity', async () => {
    const { goodput: peak } = await result(setup({ load: 1.9, seconds: 2 }));
    const { goodput: beyond } = await result(setup({ load: 6, seconds: 2 }));
    expect(beyond).toBeGreaterThan(0.9 * peak);
  });

  test('loose budgets do not starve behind tight ones below capacity', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1000 }),
        fc.constantFrom(0.3, 0.7, 0.95),
        fc.constantFrom(1, 4),
        async (seed, load, cv2) => {
          const given = { seed, load, cv2, seconds: 2, budgets: [5, 5, 5, 2000] };
          const outcomes = await simulate(setup(given));
          const loose = outcomes.filter(({ request }) => request.budget === 2000);
          expect(loose.length).toBeGreaterThan(20);
          expect(loose.every(({ inTime }) => inTime)).toBe(true);
        },
      ),
      { seed: 1, numRuns: 6 },
    );
  });

  test('a burst is over a second later: a lone patient request gets the deepest', async () => {
    for (const burstMs of [0, 100, 1000]) {
      const times = Array.from({ length: 200 }, (_, index) => (index * burstMs) / 200);
      const burst = requests(times, [20, 100, 1000, 60_000], [0], new Random(1));
      const lone = { arrivedAt: burstMs + 1000, budget: 60_000, minAccuracy: 0 };
      const outcomes = await simulate({ ...setup(), requests: [...burst, lone] });
      expect(outcomes.at(-1)!.tier!.skip).toBe('FF');
    }
  });

  test('budgets from 2 ms to seconds are served together', async () => {
    const outcomes = await simulate(setup({ load: 0.4, budgets: [2, 10, 100, 3000] }));
    const share = (budget: number) => {
      const all = outcomes.filter(({ request }) => request.budget === budget);
      return all.filter(({ inTime }) => inTime).length / all.length;
    };
    for (const budget of [10, 100, 3000]) expect(share(budget)).toBeGreaterThan(0.99);
    expect(share(2)).toBeGreaterThan(0.4);
  });

  test('doubling all budgets never delivers less, beyond noise', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1000 }),
        fc.constantFrom(0.7, 1, 1.5, 2.5),
        fc.constantFrom(1, 8),
        async (seed, load, cv2) => {
          const given = { seed, load, cv2, seconds: 1 };
          const tight = await result(setup({ ...given, budgets: [15, 25, 40] }));
          const loose = await result(setup({ ...given, budgets: [30, 50, 80] }));
          expect(loose.delivered).toBeGreaterThan(tight.delivered - 0.01);
        },
      ),
      { seed: 1, numRuns: 10 },
    );
  });

  test('a neighbour that halves the speed costs accuracy for a while, then it is over', async () => {
    const slowdowns = [{ from: 2000, to: 4000, factor: 2 }];
    const outcomes = await simulate(setup({ load: 0.7, seconds: 6, slowdowns }));
    const during = (from: number, to: number) =>
      summarise(
        outcomes.filter(({ request: { arrivedAt } }) => arrivedAt >= from && arrivedAt < to),
      );
    expect(during(0, 2000).attainment).toBe(1);
    expect(during(2000, 4000).attainment).toBeGreaterThan(0.97);
    expect(during(2500, 4000).accuracy).toBeLessThan(during(0, 2000).accuracy);
    expect(during(4200, 6000).attainment).toBeGreaterThan(0.999);
    expect(during(4200, 6000).accuracy).toBeGreaterThan(0.89);
  });

  test('after a standstill it does not go on refusing everybody', async () => {
    // Batches that take sixty times as long for a second: predicted, no budget could be kept.
    const slowdowns = [{ from: 1000, to: 2000, factor: 60 }];
    const outcomes = await simulate(setup({ load: 0.5, seconds: 6, slowdowns }));
    const after = outcomes.filter(({ request }) => request.arrivedAt >= 4000);
    expect(summarise(after).attainment).toBeGreaterThan(0.99);
  });

  test('times that scatter are planned for', async () => {
    const { attainment } = await result(setup({ load: 0.8, jitter: 0.15 }));
    expect(attainment).toBeGreaterThan(0.995);
  });

  test('several engines share one queue', async () => {
    const given = setup({ load: 1.6, engines: 2 });
    expect((await result(given)).attainment).toBeGreaterThan(0.999);
    expect((await result(given)).accuracy).toBeGreaterThan(0.895);
  });
});

describe('replicas', () => {
  test('in turn, by load, or by the better of two', () => {
    const loads = [3, 0, 5].map((running) => ({ queueLength: 0, running }));
    const inTurn = balance('round-robin', new Random(1));
    expect([1, 2, 3, 4].map(() => inTurn(loads))).toEqual([0, 1, 2, 0]);
    const least = balance('least-loaded', new Random(1));
    expect([1, 2, 3].map(() => least(loads))).toEqual([1, 1, 1]);
    const two = balance('power-of-two', new Random(1));
    const chosen = Array.from({ length: 300 }, () => two(loads));
    // The most loaded only when drawn twice: one time in nine.
    expect(chosen.filter((index) => index === 2).length).toBeLessThan(60);
  });

  test('share the load', async () => {
    const given = setup({ load: 2.4, seconds: 1 });
    const { attainment } = summarise(
      await simulate({ ...given, replicas: 3, balancing: 'least-loaded' }),
    );
    expect(attainment).toBeGreaterThan(0.999);
  });

  test('the smallest number that reaches a share is found', async () => {
    const runs: number[] = [];
    const needs = (enough: number) => async (replicas: number) => {
      runs.push(replicas);
      return replicas >= enough ? 1 : 0.5;
    };
    expect(await replicasFor(0.999, needs(1))).toBe(1);
    expect(await replicasFor(0.999, needs(11))).toBe(11);
    expect(runs.length).toBeLessThan(12);
    expect(await replicasFor(0.999, needs(100), 50)).toBeNull();
  });
});

describe('input', () => {
  test('a GET /model dump is a latency table', () => {
    const dump = JSON.stringify({
      manifest: { name: 'small' },
      tiers: PROFILE.tiers.toReversed(),
      latency: PROFILE.latency,
      slowdown: 1,
      provider: 'cpu',
      engineWorkers: 2,
      maxBatch: 16,
    });
    const profile = parseProfile(dump, 'file');
    expect(profile).toMatchObject({ name: 'small', engineWorkers: 2, maxBatch: 16 });
    expect(profile.tiers.map(({ skip }) => skip)).toEqual(['TT', 'TF', 'FF']);
  });

  test('batches are no larger than those that the table has times for', () => {
    const { maxBatch: _, ...rest } = PROFILE;
    expect(parseProfile(JSON.stringify(rest), 'file').maxBatch).toBe(16);
  });

  test('a table that lacks a row says which', () => {
    expect(() => parseProfile('{"tiers": [{"skip": "TT", "accuracy": 0.8}]}', '')).toThrow(
      '"latency" has no row for tier TT',
    );
    expect(() => parseProfile('{}', '')).toThrow('tiers');
    const broken = { tiers: PROFILE.tiers, latency: { ...PROFILE.latency, TF: { 1: null } } };
    expect(() => parseProfile(JSON.stringify(broken), '')).toThrow('latency of TF: "1": null');
  });

  test('options are checked, and the message says how to mend them', () => {
    expect(parseOptions(['--arrivals', 'gamma']).cv2).toBe(4);
    expect(parseOptions(['--budgets', '15,25,40']).budgets).toEqual([15, 25, 40]);
    expect(parseOptions(['--slowdown', '1:2:3']).slowdowns).toEqual([
      { from: 1000, to: 2000, factor: 3 },
    ]);
    expect(() => parseOptions(['--rate', 'fast'])).toThrow('--rate takes a number');
    expect(() => parseOptions(['--slowdown', '5:2:3'])).toThrow('from:to:factor');
    expect(() => parseOptions(['--balance', 'best'])).toThrow('round-robin');
    expect(() => parseOptions(['--replicas', '1.5'])).toThrow('whole number');
    expect(() => parseOptions(['--nope'])).toThrow('--nope');
    expect(() => parseOptions(['--budgets', ''])).toThrow('--budgets takes a number');
    expect(() => parseOptions(['--seed', 'Infinity'])).toThrow('--seed takes a number');
    expect(() => parseOptions(['--scale', '2'])).toThrow('--trace');
    expect(() => parseOptions(['--load', '1', '--rate', '2'])).toThrow('exclude each other');
    expect(() => parseOptions(['--arrivals', 'steps', '--rate', '2'])).toThrow('--rates');
  });
});

test('the plot is one SVG whatever happened', async () => {
  const outcomes = await simulate(setup({ load: 2, seconds: 1 }));
  const svg = plot(outcomes, PROFILE.tiers, 'a < b');
  expect(svg).toMatch(/^<svg [^]*<\/svg>\n$/);
  expect(svg).toContain('a &lt; b');
  expect(svg).not.toContain('NaN');
  expect(plot([], PROFILE.tiers, '')).not.toContain('NaN');
});
