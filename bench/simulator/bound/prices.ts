import type { Request } from '../arrivals.ts';
import type { Kind } from './batches.ts';
import { PricedBatches } from './batches.ts';

/** Starts are multiples of the shortest batch time over this, first to find prices, then to end. */
const COARSE = 4;
const FINE = 16;
/** Steps towards the best prices on either grid. */
const COARSE_ITERATIONS = 40;
const FINE_ITERATIONS = 8;
/** By how much of an answer's worth the first and the last of all steps move a price. */
const FIRST_STEP = 0.12;
const LAST_STEP = 0.0005;
/** Share of the direction that is kept from one step to the next: batches change by leaps. */
const MOMENTUM = 0.7;

/**
 * The lowest bound that prices were found for, by steps against the subgradient: a request that is
 * answered more than once becomes dearer, one that is not answered cheaper.
 */
export function pricedBound(
  kinds: readonly Kind[],
  requests: readonly Request[],
  engines: number,
): number {
  const shortest = Math.min(...kinds.map(({ ms }) => ms[1]!));
  const worth = kinds[0]!.worth;
  const prices = startingPrices(kinds, requests, engines);
  const counts = new Float64Array(requests.length);
  const direction = new Float64Array(requests.length);
  const iterations = COARSE_ITERATIONS + FINE_ITERATIONS;
  let lowest = Infinity;
  let grid = new PricedBatches(kinds, requests, engines, shortest / COARSE);
  for (let k = 0; k < iterations; k++) {
    if (k === COARSE_ITERATIONS) {
      grid = new PricedBatches(kinds, requests, engines, shortest / FINE);
    }
    lowest = Math.min(lowest, grid.bound(prices, counts));
    const step = worth * FIRST_STEP * (LAST_STEP / FIRST_STEP) ** (k / iterations);
    for (let i = 0; i < prices.length; i++) {
      direction[i] = MOMENTUM * direction[i]! + (1 - MOMENTUM) * (counts[i]! - 1);
      prices[i] = Math.max(0, prices[i]! + step * direction[i]!);
    }
  }
  return lowest;
}

/** Where there is time for all, an answer takes place from nobody: it is worth its full price. */
const IDLE = { utilisation: 0.85, price: 0.99 };
/** Where there is not, much of the worth goes to the engine's time. */
const CROWDED = { utilisation: 1.25, price: 0.3 };
/** Counts who comes within so many budgets before and after. */
const AROUND = 1;

function startingPrices(
  kinds: readonly Kind[],
  requests: readonly Request[],
  engines: number,
): Float64Array {
  const times = requests.map(({ arrivedAt }) => arrivedAt).sort((a, b) => a - b);
  const before = (time: number) => {
    let low = 0;
    let high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle]! < time) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return Float64Array.from(requests, ({ arrivedAt, budget }) => {
    const { ms, worth } = kinds[0]!;
    let least = ms[1]!;
    for (let b = 2; b < ms.length && ms[b]! <= budget / 2; b++) least = Math.min(least, ms[b]! / b);
    const from = arrivedAt - AROUND * budget;
    const to = arrivedAt + (1 + AROUND) * budget;
    const utilisation = ((before(to) - before(from)) * least) / (to - from) / engines;
    const share = (utilisation - IDLE.utilisation) / (CROWDED.utilisation - IDLE.utilisation);
    const price = IDLE.price + Math.min(1, Math.max(0, share)) * (CROWDED.price - IDLE.price);
    return worth * price;
  });
}
