import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dense } from '../../src/scheduler/latency.ts';
import type { Request } from '../../bench/simulator/arrivals.ts';
import { upperBound } from '../../bench/simulator/bound.ts';
import { byAccuracy, byCount, PricedBatches } from '../../bench/simulator/bound/batches.ts';
import { divisibleBound } from '../../bench/simulator/bound/divisible.ts';
import type { Profile } from '../../bench/simulator/tables.ts';

const profile = (fixed: number): Profile => ({
  name: 'tiny',
  tiers: [
    { skip: 'T', accuracy: 0.7, macs: 1 },
    { skip: 'F', accuracy: 0.9, macs: 2 },
  ],
  latency: {
    T: { 1: fixed + 1, 2: fixed + 2, 3: fixed + 3 },
    F: { 1: fixed + 2, 2: fixed + 4, 3: fixed + 6 },
  },
  engineWorkers: 1,
  maxBatch: 3,
});

const request = (arrivedAt: number, budget: number, minAccuracy = 0): Request => ({
  arrivedAt,
  budget,
  minAccuracy,
});

/** The best that any schedule can do, by trying them all: starts at arrivals and completions. */
function exhaustive(
  { tiers, latency, maxBatch }: Profile,
  requests: readonly Request[],
  engines: number,
): { delivered: number; attainment: number } {
  const times = tiers.map(({ skip }) => dense(latency[skip]!));
  const best = { delivered: 0, attainment: 0 };
  const search = (
    left: readonly Request[],
    free: readonly number[],
    value: number,
    count: number,
  ) => {
    best.delivered = Math.max(best.delivered, value);
    best.attainment = Math.max(best.attainment, count);
    for (let mask = 1; mask < 1 << left.length; mask++) {
      const batch = left.filter((_, i) => mask & (1 << i));
      if (batch.length > maxBatch) continue;
      const rest = left.filter((one) => !batch.includes(one));
      for (let engine = 0; engine < engines; engine++) {
        const start = Math.max(free[engine]!, ...batch.map(({ arrivedAt }) => arrivedAt));
        tiers.forEach(({ accuracy }, tier) => {
          const end = start + times[tier]![batch.length]!;
          const fits = batch.every(
            (one) => one.arrivedAt + one.budget >= end - 1e-9 && one.minAccuracy <= accuracy,
          );
          if (!fits) return;
          const after = free.map((at, index) => (index === engine ? end : at));
          search(rest, after, value + accuracy * batch.length, count + batch.length);
        });
      }
    }
  };
  search(requests, Array<number>(engines).fill(0), 0, 0);
  return {
    delivered: best.delivered / requests.length,
    attainment: best.attainment / requests.length,
  };
}

/** Of the quarter that T is least sure of, F gets most right; of the others a few more. */
const bins = [
  { share: 0.25, below: 0.5, first: 0.25, second: 0.9 },
  { share: 0.75, below: 1, first: 0.85, second: 0.9 },
];

const withSecondLooks = (fixed: number): Profile => {
  const { tiers, ...rest } = profile(fixed);
  const [first, second] = tiers;
  return { ...rest, tiers: [{ ...first!, again: { skip: 'F', bins } }, second!] };
};

/** One that T has looked at, with time until `deadline`. */
interface LookedAt {
  readonly deadline: number;
  readonly bin: (typeof bins)[number];
}

/**
 * The most accuracy that can be expected in time on one engine, by trying every order of batches,
 * whatever first looks turn out to be.
 */
function expectimax(
  tiny: Profile,
  left: readonly Request[],
  looked: readonly LookedAt[] = [],
  free = 0,
): number {
  const { latency, maxBatch } = tiny;
  const [quick, deep] = [dense(latency.T!), dense(latency.F!)];
  let best = 0;
  const members = left.length + looked.length;
  for (let mask = 1; mask < 1 << members; mask++) {
    const isIn = (i: number) => (mask & (1 << i)) > 0;
    const batch = left.filter((_, i) => isIn(i));
    const again = looked.filter((_, i) => isIn(left.length + i));
    const size = batch.length + again.length;
    if (size > maxBatch) continue;
    const start = Math.max(free, ...batch.map(({ arrivedAt }) => arrivedAt));
    const deadlines = batch.map(({ arrivedAt, budget }) => arrivedAt + budget);
    const inTime = (end: number) =>
      [...deadlines, ...again.map(({ deadline }) => deadline)].every((at) => at >= end - 1e-9);
    const rest = left.filter((_, i) => !isIn(i));
    const others = looked.filter((_, i) => !isIn(left.length + i));
    const deepEnd = start + deep[size]!;
    if (inTime(deepEnd)) {
      const gained = again.reduce((sum, { bin }) => sum + bin.second - bin.first, 0);
      const now = 0.9 * batch.length + gained;
      best = Math.max(best, now + expectimax(tiny, rest, others, deepEnd));
    }
    const end = start + quick[size]!;
    if (again.length > 0 || !inTime(end) || batch.some((one) => one.minAccuracy > 0.7)) continue;
    let expected = 0;
    for (let sure = 0; sure < 1 << size; sure++) {
      const seen = deadlines.map((deadline, i) => ({ deadline, bin: bins[(sure >> i) & 1]! }));
      const now = seen.reduce((sum, { bin }) => sum + bin.first, 0);
      const chance = seen.reduce((product, { bin }) => product * bin.share, 1);
      expected += chance * (now + expectimax(tiny, rest, [...others, ...seen], end));
    }
    best = Math.max(best, expected);
  }
  return best;
}

const fewRequests = fc
  .array(
    fc.record({
      arrivedAt: fc.integer({ min: 0, max: 8 }),
      budget: fc.integer({ min: 1, max: 9 }),
      minAccuracy: fc.constantFrom(0, 0, 0.8),
    }),
    { minLength: 1, maxLength: 4 },
  )
  .map((all): Request[] => all.sort((a, b) => a.arrivedAt - b.arrivedAt));
const fixedCosts = fc.constantFrom(0, 1, 3);
const engineCounts = fc.constantFrom(1, 1, 2);

describe('clairvoyant bound', () => {
  test('is never below the best of all schedules', () => {
    fc.assert(
      fc.property(fewRequests, fixedCosts, engineCounts, (requests, fixed, engines) => {
        const bound = upperBound(profile(fixed), requests, engines);
        const best = exhaustive(profile(fixed), requests, engines);
        expect(bound.delivered).toBeGreaterThanOrEqual(best.delivered - 1e-9);
        expect(bound.attainment).toBeGreaterThanOrEqual(best.attainment - 1e-9);
      }),
      { numRuns: 300 },
    );
  });

  test('is never below what can be expected of any policy that looks again', () => {
    fc.assert(
      fc.property(fewRequests, fixedCosts, (all, fixed) => {
        const requests = all.slice(0, 3);
        const tiny = withSecondLooks(fixed);
        const best = expectimax(tiny, requests);
        expect(upperBound(tiny, requests, 1).delivered * requests.length).toBeGreaterThanOrEqual(
          best - 1e-9,
        );
      }),
      { numRuns: 300 },
    );
  });

  test('counts second looks where they are worth their time', () => {
    // 1.5 ms for each: T takes 1 and F 2, so either half of them F, or T and every fourth F, too.
    const four = Array.from({ length: 4 }, () => request(0, 6));
    const alone = { ...profile(0), maxBatch: 1 };
    expect(upperBound(alone, four, 1).delivered).toBeCloseTo((0.7 + 0.9) / 2, 3);
    const again = { ...withSecondLooks(0), maxBatch: 1 };
    expect(upperBound(again, four, 1).delivered).toBeCloseTo(0.7 + 0.25 * (0.9 - 0.25), 3);
  });

  test('is met when there is time for everything', () => {
    const requests = [0, 10, 20].map((at) => request(at, 5));
    expect(upperBound(profile(1), requests, 1)).toMatchObject({ attainment: 1 });
    expect(upperBound(profile(1), requests, 1).delivered).toBeCloseTo(0.9, 3);
  });

  test('knows that a batch needs company', () => {
    // Alone, 4 ms are not enough for the fixed 3 ms and the 2 ms of F.
    expect(upperBound(profile(3), [request(0, 4)], 1).delivered).toBeCloseTo(0.7, 3);
    // Three together take 6 ms, each a third of it; one alone takes all of 4.
    const together = [request(0, 6), request(0, 6), request(0, 6)];
    expect(upperBound(profile(3), together, 1).attainment).toBe(1);
    const apart = [request(0, 4), request(0.1, 4), request(0.2, 4)];
    expect(upperBound(profile(3), apart, 1).attainment).toBeLessThan(0.4);
  });

  test('knows that a late member may fill a batch up where a larger one is quicker', () => {
    const { tiers, ...rest } = profile(0);
    const falling = { ...rest, tiers: tiers.slice(0, 1), latency: { T: { 1: 5, 2: 3 } } };
    expect(upperBound(falling, [request(0, 4), request(0, 1)], 1).attainment).toBeCloseTo(0.5);
  });

  test('honours floors', () => {
    expect(upperBound(profile(1), [request(0, 2.5, 0.8)], 1).delivered).toBe(0);
  });

  test('counts for the lowest floor first, whoever comes first', () => {
    const kinds = byCount(profile(1), [request(0, 5, 0.8), request(0, 5)]);
    expect(kinds.map(({ accuracy }) => accuracy)).toEqual([0.7, 0.9]);
  });

  test('of several requests that exclude each other counts what fits', () => {
    // Each takes 2 ms of a window of 2 ms.
    const requests = [request(0, 2), request(0, 2)];
    expect(upperBound({ ...profile(1), maxBatch: 1 }, requests, 1).attainment).toBeCloseTo(0.5);
    expect(upperBound({ ...profile(1), maxBatch: 1 }, requests, 2).attainment).toBeCloseTo(1);
  });

  test('whatever the prices of requests and the grid of starts are, no schedule is better', () => {
    fc.assert(
      fc.property(
        fewRequests,
        fixedCosts,
        engineCounts,
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 }),
        fc.constantFrom(1, 0.25, 0.3),
        (requests, fixed, engines, prices, step) => {
          const batches = new PricedBatches(byAccuracy(profile(fixed)), requests, engines, step);
          const paid = Float64Array.from(prices.slice(0, requests.length));
          const bound = batches.bound(paid, new Float64Array(requests.length));
          const { delivered } = exhaustive(profile(fixed), requests, engines);
          expect(bound).toBeGreaterThanOrEqual(delivered * requests.length - 1e-9);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('knows that a batch cannot be interrupted', () => {
    // The first alone until 4 ms, or the others together, who must start within 2 ms: two of three.
    const requests = [request(0, 4), request(1, 6), request(1, 6)];
    expect(divisibleBound(profile(3), requests, 1).attainment).toBeGreaterThan(0.8);
    expect(upperBound(profile(3), requests, 1).attainment).toBeLessThan(0.75);
  });

  test('is the cheaper of the two relaxations where that is said to be enough', () => {
    const requests = [request(0, 4), request(1, 6), request(1, 6)];
    const first = divisibleBound(profile(3), requests, 1);
    expect(upperBound(profile(3), requests, 1, () => true)).toEqual(first);
  });
});
