import type { View, Waiting } from '../policy.ts';
import { busyMs, efficient, floorOf } from './costs.ts';

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
const known = new WeakMap<readonly Waiting[], { plan: Plan; basis: readonly unknown[] }>();

export function planOf(view: View): Plan {
  const { admitted, tiers, latency, maxBatch, enginesFreeAt } = view;
  const basis = [tiers, latency, latency.revision, maxBatch, enginesFreeAt.length];
  // Predictions that do not tell when they change may have.
  const last = latency.revision === undefined ? undefined : known.get(admitted);
  if (last?.basis.every((part, i) => part === basis[i])) return last.plan;
  const plan = latestPlan(view);
  known.set(admitted, { plan, basis });
  return plan;
}

/**
 * With a fixed cost for each batch and one for each image, a larger batch is better for as long as
 * its first deadline is not what limits it. So the best size is at most two more than that of the
 * batch one place later, and the search from there down ends where time behind it gets scarcer.
 * Where floors differ, all sizes are tried.
 */
function latestPlan(view: View): Plan {
  const { admitted, maxBatch } = view;
  const { length: engines } = view.enginesFreeAt;
  const { length } = admitted;
  const floors = admitted.map((request) => floorOf(view, request));
  const alike = floors.every((floor) => floor === floors[0]);
  const largest = alike && length > 0 ? efficient(view, floors[0]!).batch : maxBatch;
  const latest = Array<number>(length + 1).fill(Infinity);
  const size = Array<number>(length + 1).fill(0);
  const tier = Array<number>(length + 1).fill(0);
  /** By the size of a batch that starts at `i`: the cheapest tier, and what it takes. */
  const cheapest = Array<number>(largest + 1).fill(-1);
  const times = Array<number>(largest + 1).fill(NaN);
  for (let i = length - 1; i >= 0; i--) {
    for (let batch = alike && i < length - 1 ? 0 : largest; batch > 0; batch--) {
      const needed = Math.max(floors[i]!, cheapest[batch - 1]!);
      if (cheapest[batch] !== needed) times[batch] = busyMs(view, needed, batch);
      cheapest[batch] = needed;
    }
    const { deadline } = admitted[i]!;
    let best = -Infinity;
    // Never none, or a plan whose times cannot be predicted would not end.
    let bestSize = 1;
    const most = Math.min(largest, length - i, alike ? size[i + 1]! + 2 : largest);
    for (let batch = most; batch > 0; batch--) {
      const ms = times[batch]!;
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
  return { largest, latest, size, tier };
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
  const ahead = busyMs(view, 0, view.maxBatch) * (0.5 - 0.5 / free.length);
  return view.now + Math.max(Math.min(...free), mean - ahead);
}

/** When the engines come free, but for one that is. */
export function otherEngines({ enginesFreeAt, now }: View): readonly number[] {
  const mine = enginesFreeAt.findIndex((at) => at <= now);
  return enginesFreeAt.toSpliced(mine, 1);
}
