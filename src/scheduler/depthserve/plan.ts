import type { View, Waiting } from '../policy.ts';
import { costsOf } from './costs.ts';
import type { Costs } from './costs.ts';

/**
 * The latest schedule that still answers a whole queue in time, on the cheapest tiers that floors
 * allow. By position, from the last deadline to the first.
 *
 * All requests are there and take equally long, so by an exchange of neighbours batches of
 * consecutive deadlines are as good as any; and for the same reason the best requests to give up
 * are always the earliest: what remains has later deadlines than after giving up any others. So
 * `latest` also tells how many must be given up. Several engines are taken for one that can start
 * a batch every L / engines.
 */
export interface Plan {
  readonly costs: Costs;
  readonly engines: number;
  /** Size of the largest batch in it, if there are enough. */
  readonly largest: number;
  /**
   * The latest time at which an engine may come free and still answer everything from there on.
   * One entry more than the queue: nothing can wait for ever.
   */
  readonly latest: readonly number[];
  /** Size of the batch that starts there. */
  readonly size: readonly number[];
  /** Index of its tier: the cheapest that all of it accept. */
  readonly tier: readonly number[];
}

/** The plan of each list of requests that there is: between two changes it is asked many times. */
const known = new WeakMap<readonly Waiting[], Plan>();

export function planOf(view: View): Plan {
  const queue = view.admitted;
  const costs = costsOf(view);
  const engines = view.enginesFreeAt.length;
  const last = known.get(queue);
  if (last && last.costs === costs && last.engines === engines) return last;
  const plan = latestPlan(queue, costs, engines);
  known.set(queue, plan);
  return plan;
}

/**
 * With a fixed cost for each batch and one for each image, a larger batch is better for as long as
 * its first deadline is not what limits it. So the best size is at most two more than that of the
 * batch one place later, and the search from there down ends where time behind it gets scarcer.
 * Where floors differ, all sizes are tried.
 */
function latestPlan(queue: readonly Waiting[], costs: Costs, engines: number): Plan {
  const length = queue.length;
  const floors = queue.map((request) => costs.floor(request));
  const alike = floors.every((floor) => floor === floors[0]);
  const largest = alike && length > 0 ? costs.efficient(floors[0]!).batch : costs.maxBatch;
  const latest = Array<number>(length + 1).fill(Infinity);
  const size = Array<number>(length + 1).fill(0);
  const tier = Array<number>(length + 1).fill(0);
  /** By the size of a batch that starts at `i`: the cheapest tier, and what it takes. */
  const cheapest = Array<number>(costs.maxBatch + 1).fill(0);
  const busyMs = Array<number>(costs.maxBatch + 1).fill(NaN);
  const startWith = (floor: number, most: number) => {
    for (let batch = most; batch > 0; batch--) {
      cheapest[batch] = Math.max(floor, cheapest[batch - 1]!);
      busyMs[batch] = costs.busyMs(cheapest[batch]!, batch);
    }
  };
  if (alike) startWith(floors[0] ?? 0, largest);
  for (let i = length - 1; i >= 0; i--) {
    const { deadline } = queue[i]!;
    const most = Math.min(largest, length - i, alike ? size[i + 1]! + 2 : largest);
    if (!alike) startWith(floors[i]!, most);
    let best = -Infinity;
    // Never none, or a plan whose times cannot be predicted would not end.
    let bestSize = 1;
    for (let batch = most; batch > 0; batch--) {
      const ms = busyMs[batch]!;
      const inTime = deadline - ms;
      const behind = latest[i + batch]! - ms / engines;
      const start = inTime < behind ? inTime : behind;
      // At equal times the larger batch.
      if (start > best) {
        best = start;
        bestSize = batch;
      } else if (alike && behind < best) break;
    }
    latest[i] = best;
    size[i] = bestSize;
    tier[i] = cheapest[bestSize]!;
  }
  return { costs, engines, largest, latest, size, tier };
}

/** First position at or after `from` whose rest can be served by an engine free at `time`. */
export function firstFeasible({ latest }: Plan, from: number, time: number): number {
  let first = from;
  while (latest[first]! < time - ROUNDING_MS) first++;
  return first;
}

/** Two ways to add the same times may differ by this. */
export const ROUNDING_MS = 1e-9;

/**
 * When the engines, seen as one that starts a batch every L / engines, can start the next: the
 * first to come free, unless the others are so far behind that the work piles up for it.
 */
export function startOf(view: View, freeAt = view.enginesFreeAt): number {
  const free = freeAt.map((at) => Math.max(at - view.now, 0));
  if (free.length === 1) return view.now + free[0]!;
  const mean = free.reduce((sum, at) => sum + at, 0) / free.length;
  // Evenly staggered engines come free, on average, half a batch after the first.
  const ahead = costsOf(view).busyMs(0, view.maxBatch) * (0.5 - 0.5 / free.length);
  return view.now + Math.max(Math.min(...free), mean - ahead);
}

/** When the engines come free, but for one that is. */
export function otherEngines({ enginesFreeAt, now }: View): readonly number[] {
  const mine = enginesFreeAt.findIndex((at) => at <= now);
  return enginesFreeAt.toSpliced(mine, 1);
}
