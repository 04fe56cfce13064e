import { describe, expect, test } from 'vitest';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import { MeasuredLatency } from '../../src/scheduler/latency.ts';
import type { LatencyModel } from '../../src/scheduler/policy.ts';
import { TIERS, linear, view, waiting } from './support.ts';

const queueOf = (deadlines: readonly number[]) => deadlines.map((at, id) => waiting(id, at));
const tierOf = (queue: ReturnType<typeof queueOf>, rest = {}) =>
  depthserve.decide(view(queue, rest)).run?.tier.skip;

describe('depth', () => {
  test('an idle server answers on the most accurate sub-network', () => {
    expect(tierOf(queueOf([20]))).toBe('FF');
  });

  test('a budget too short for the deepest gets the deepest that meets it', () => {
    // One image takes 2, 3 or 4 ms.
    expect(tierOf(queueOf([3.5]))).toBe('TF');
    expect(tierOf(queueOf([2.5]))).toBe('TT');
  });

  test('a backlog is answered shallower, so that all of it is in time', () => {
    // 16 images: two batches of 8 take 18 ms on TT, 27 on TF, 36 on FF.
    expect(tierOf(queueOf(Array(16).fill(18.5)))).toBe('TT');
    expect(tierOf(queueOf(Array(16).fill(60)))).toBe('FF');
  });

  test('a high rate of arrivals makes it shallower before a backlog is there', () => {
    const queue = queueOf([40, 40, 40, 40]);
    const arrivals = (rate: number) => ({
      arrivals: { rate, dispersion: 1, budgets: [20, 40] },
    });
    expect(tierOf(queue, arrivals(0.1))).toBe('FF');
    // TT answers at most 8 images in 9 ms.
    expect(tierOf(queue, arrivals(0.85))).toBe('TF');
    expect(tierOf(queue, arrivals(1.2))).toBe('TT');
  });

  test('arrivals that no idle server could answer either do not make depth dear', () => {
    // The cheapest sub-network takes 2 ms.
    const arrivals = { rate: 0.1, dispersion: 1, budgets: [1, 1, 1, 1000] };
    expect(tierOf(queueOf([1000]), { arrivals })).toBe('FF');
  });

  test('a rate is relied upon only as far ahead as it is known', () => {
    // 0.85 a ms is what TT can just answer; if that ends after two seconds, there is time for all.
    const arrivals = { rate: 0.85, dispersion: 1, budgets: [100, 100, 100, 60_000] };
    const queue = queueOf([60_000]);
    expect(tierOf(queue, { arrivals })).toBe('TT');
    const reach = [{ ms: 2000, rate: 0.85 }];
    expect(tierOf(queue, { arrivals: { ...arrivals, reach } })).toBe('FF');
  });

  test('where the engine has no core to itself, what else an image costs makes depth dear', () => {
    const queue = queueOf([40, 40, 40, 40]);
    const arrivals = { rate: 0.3, dispersion: 1, budgets: [20, 40] };
    const own = linear(1);
    const latency: LatencyModel = {
      predict: (tier, batch) => own.predict(tier, batch) + 2 * batch,
      typical: (tier, batch) => own.typical(tier, batch) + 2 * batch,
    };
    expect(tierOf(queue, { arrivals })).toBe('FF');
    expect(tierOf(queue, { arrivals, latency })).not.toBe('FF');
  });

  test('several engines keep up with more before depth falls', () => {
    const queue = queueOf(Array(16).fill(30));
    const arrivals = { rate: 0.3, dispersion: 1, budgets: [40] };
    const four = { arrivals, enginesFreeAt: Array<number>(4).fill(-Infinity) };
    expect(tierOf(queue, four)).toBe('FF');
    expect(tierOf(queue, { arrivals })).not.toBe('FF');
  });
});

describe('times that scatter', () => {
  /** One batch in twenty takes twice as long as most, or longer. */
  const scattered: LatencyModel = {
    predict: (tier, batch) => 2 * linear(1).predict(tier, batch),
    typical: (tier, batch) => linear(1).typical(tier, batch),
  };

  test('cost who would be late', () => {
    // FF takes 4 ms, TF 3, TT 2; at times twice as long.
    const tier = (budget: number, latency: LatencyModel) => tierOf(queueOf([budget]), { latency });
    expect(tier(4.5, linear(1))).toBe('FF');
    expect(tier(4.5, scattered)).not.toBe('FF');
    expect(tier(40, scattered)).toBe('FF');
  });

  test('a batch blocks the engine for as long as it may take, not as it typically takes', () => {
    const arrivals = { rate: 0.1, dispersion: 1, budgets: [9, 9, 500] };
    // FF takes 4 ms, at times 8; for a budget of 9 that leaves TT, which may need 4, no time.
    expect(tierOf(queueOf([500]), { arrivals })).toBe('FF');
    expect(tierOf(queueOf([500]), { arrivals, latency: scattered })).not.toBe('FF');
  });
});

describe('batch', () => {
  test('never makes a request wait for company', () => {
    expect(depthserve.decide(view(queueOf([1000]))).run?.batch).toHaveLength(1);
  });

  test('shares the fixed cost among all that wait, when time is dear', () => {
    const { run } = depthserve.decide(view(queueOf(Array(16).fill(18.5))));
    expect(run?.batch.map(({ id }) => id)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test('a tight deadline is answered in a batch small enough to meet it', () => {
    // With TT, 3 images take 4 ms.
    const { run } = depthserve.decide(view(queueOf([4, 30, 30, 30, 30, 30])));
    expect(run!.batch[0]!.id).toBe(0);
    expect(linear(1).predict(run!.tier, run!.batch.length)).toBeLessThanOrEqual(4);
  });

  test('when tight budgets are common, does not block the engine for them', () => {
    const queue = queueOf(Array(8).fill(500));
    const size = (budgets: readonly number[]) =>
      depthserve.decide(
        view(queue, { latency: linear(0.1), arrivals: { rate: 0.2, dispersion: 1, budgets } }),
      ).run!.batch.length;
    expect(size([2.5, 2.5, 500])).toBeLessThan(size([500]));
  });
});

describe('accuracy floors', () => {
  test('a request is never answered below its floor', () => {
    const queue = [waiting(0, 10, { minAccuracy: 0.9 }), waiting(1, 10)];
    const { run } = depthserve.decide(view(queue));
    expect(run?.tier.skip).toBe('FF');
  });

  test('a floor that only a slow sub-network meets counts its time', () => {
    // FF alone takes 4 ms.
    const queue = [waiting(0, 3.5, { minAccuracy: 0.9 }), waiting(1, 10)];
    const { expire, run } = depthserve.decide(view(queue));
    expect(expire.map(({ id }) => id)).toEqual([0]);
    expect(run?.batch.map(({ id }) => id)).toEqual([1]);
  });

  test('a floor above every sub-network is refused, whatever the budget', () => {
    const refusal = depthserve.admit(view([]), waiting(0, 1e6, { minAccuracy: 0.95 }));
    expect(refusal).toEqual({ reason: 'accuracy-unavailable', smallestBudgetMs: Infinity });
  });
});

test('what fits to the last bit has not become hopeless by rounding', () => {
  const queue = [waiting(0, 2)];
  expect(depthserve.decide(view(queue, { now: Number.MIN_VALUE })).expire).toEqual([]);
});

test('a decision knows what the last batch taught', () => {
  const latency = new MeasuredLatency({ TT: { 1: 2 }, TF: { 1: 3 }, FF: { 1: 4 } });
  const choice = () => {
    const { run } = depthserve.decide(view([waiting(0, 5)], { latency }));
    return run?.tier.skip;
  };
  expect(choice()).toBe('FF');
  for (let i = 0; i < 3; i++) latency.observe(TIERS[2]!, 1, 4.8);
  expect(choice()).toBe('TF');
  latency.rest(60_000);
  expect(choice()).toBe('FF');
});

describe('refusal', () => {
  test('what fits on the cheapest sub-network is accepted', () => {
    // Sixteen images in 18 ms, the present fifteen included.
    const queue = queueOf(Array(15).fill(18.5));
    expect(depthserve.admit(view(queue), waiting(99, 18.5))).toBeNull();
  });

  test('one more than the cheapest sub-network can answer is refused at the door', () => {
    const queue = queueOf(Array(16).fill(18.5));
    const refusal = depthserve.admit(view(queue), waiting(99, 18.5))!;
    expect(refusal.reason).toBe('overload');
    // A third batch, of one image, takes 2 ms more.
    expect(refusal.smallestBudgetMs).toBeGreaterThanOrEqual(20);
    expect(refusal.smallestBudgetMs).toBeLessThan(21);
  });

  test('in a burst, the places of those with little time go to those with more', () => {
    // Busy until 10 ms, then two batches of 8, 9 ms each, are just in time.
    const busy = { enginesFreeAt: [10] };
    const queue = queueOf([...Array(8).fill(19), ...Array(8).fill(28)]);
    expect(depthserve.hopeless!(view(queue, busy)).giveUp).toEqual([]);
    // There is time for 16 of 17, whoever they are; 19 ms are nearly as much as 28.
    expect(depthserve.admit(view(queue, busy), waiting(99, 28))?.reason).toBe('overload');
    const newcomer = waiting(99, 29);
    expect(depthserve.admit(view(queue, busy), newcomer)).toBeNull();
    const { giveUp } = depthserve.hopeless!(view([...queue, newcomer], busy));
    expect(giveUp!.map(({ request }) => request.id)).toEqual([0]);
    expect(giveUp![0]!.refusal.reason).toBe('overload');
    expect(giveUp![0]!.refusal.smallestBudgetMs).toBeGreaterThan(19);
  });

  test('an urgent request that would break promises made to others is refused', () => {
    const queue = queueOf(Array(16).fill(18.5));
    expect(depthserve.admit(view(queue), waiting(99, 5))?.reason).toBe('overload');
  });

  test('one that waits in vain is no reason to refuse those who have time', () => {
    const busy = { enginesFreeAt: [10] };
    expect(depthserve.admit(view([waiting(0, 5)], busy), waiting(1, 500))).toBeNull();
    // Batches that fit to the last bit of a floating-point number fit.
    const exact = { enginesFreeAt: [0.1 + 0.2] };
    expect(depthserve.admit(view([waiting(0, 2.3)], exact), waiting(1, 500))).toBeNull();
  });

  test('a tight batch of any size is no reason to refuse those who have time', () => {
    for (let count = 1; count <= 8; count++) {
      // All of them together take 1 + count ms, and not a moment less.
      const queue = queueOf(Array(count).fill(1 + count + 1e-6));
      expect(depthserve.admit(view(queue), waiting(99, 500))).toBeNull();
    }
  });

  test('a budget below the time of a single image is refused as too small', () => {
    expect(depthserve.admit(view([]), waiting(0, 1.5))).toEqual({
      reason: 'budget-too-small',
      smallestBudgetMs: 2,
    });
  });

  test('the budget that is named holds the scatter of times; what is admitted need not', () => {
    const [quick, slow] = [linear(1), linear(1.5)];
    const latency: LatencyModel = {
      predict: (tier, batch) => slow.predict(tier, batch),
      typical: (tier, batch) => quick.typical(tier, batch),
    };
    const scattering = view([], { latency });
    expect(depthserve.admit(scattering, waiting(0, 1.5))?.smallestBudgetMs).toBe(2.5);
    expect(depthserve.admit(scattering, waiting(0, 2))).toBeNull();
  });

  test('the time until an engine comes free counts', () => {
    const busy = { enginesFreeAt: [10] };
    expect(depthserve.admit(view([], busy), waiting(0, 11))).toEqual({
      reason: 'overload',
      smallestBudgetMs: 12,
    });
    expect(depthserve.admit(view([], busy), waiting(0, 12))).toBeNull();
  });
});
