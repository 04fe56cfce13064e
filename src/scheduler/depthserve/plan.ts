import type { Waiting } from '../policy.ts';
import type { Costs } from './costs.ts';

/** The latest schedule that still answers a whole queue in time. */
export interface Plan {
  /**
   * By position: the latest time at which an engine may come free and still answer everything
   * from there on. One entry more than the queue: nothing can wait for ever.
   */
  readonly latest: Float64Array;
  /** By position: size of the batch that starts there in the latest schedule. */
  readonly size: Int32Array;
}

/**
 * Latest schedule of requests in order of deadlines, each batch on the cheapest tier that all of
 * it accepts. Dynamic programme from the end.
 *
 * All requests are there and take equally long, so by an exchange of neighbours batches of
 * consecutive deadlines are as good as any; and for the same reason the best requests to give up
 * are always the earliest: what remains has later deadlines than after giving up any others. So
 * `latest` is exact for one engine and also tells how many must be given up. Several engines are
 * taken for one that can start a batch every L / engines.
 *
 * @param floors index of the cheapest tier that each request accepts.
 * @param before the plan of the same queue without the request at position `at`: who is due after
 *   it is planned there already.
 */
export function latestPlan(
  deadlines: ArrayLike<number>,
  floors: ArrayLike<number>,
  costs: Costs,
  engines: number,
  before?: { readonly plan: Plan; readonly at: number },
): Plan {
  const { maxBatch, sizes, allMs, allBusyMs, width } = costs;
  const length = deadlines.length;
  const latest = new Float64Array(length + 1);
  const size = new Int32Array(length);
  latest[length] = Infinity;
  let last = length - 1;
  if (before) {
    last = before.at;
    latest.set(before.plan.latest.subarray(last), last + 1);
    size.set(before.plan.size.subarray(last), last + 1);
  }
  const first = floors[0] ?? 0;
  let alike = true;
  for (let i = 1; i < length && alike; i++) alike = floors[i] === first;
  let row = first * width;
  // Most of what a decision does is here: no call, and no look-up but in typed arrays.
  for (let i = last; i >= 0; i--) {
    const left = length - i;
    const most = left < maxBatch ? left : maxBatch;
    const deadline = deadlines[i]!;
    let best = -Infinity;
    // Never none, or a plan whose times cannot be predicted would not end.
    let bestSize = 1;
    let floor = 0;
    let seen = 0;
    for (let j = 0, batch = 0; batch !== most; j++) {
      const planned = sizes[j]!;
      batch = planned < most ? planned : most;
      if (!alike) {
        for (; seen < batch; seen++) floor = Math.max(floor, floors[i + seen]!);
        row = floor * width;
      }
      const inTime = deadline - allMs[row + batch]!;
      const start = Math.min(inTime, latest[i + batch]! - allBusyMs[row + batch]! / engines);
      if (start >= best) {
        best = start;
        bestSize = batch;
      }
    }
    latest[i] = best;
    size[i] = bestSize;
  }
  return { latest, size };
}

export function deadlinesOf(queue: readonly Waiting[]): Float64Array {
  const deadlines = new Float64Array(queue.length);
  for (let i = 0; i < queue.length; i++) deadlines[i] = queue[i]!.deadline;
  return deadlines;
}

/** First position at or after `from` whose rest can be served by an engine free at `time`. */
export function firstFeasible(
  latest: Float64Array,
  from: number,
  time: number,
  tolerance = ROUNDING_MS,
): number {
  let low = from;
  let high = latest.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (latest[middle]! >= time - tolerance) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Two ways to add the same times may differ by this. */
export const ROUNDING_MS = 1e-9;

/** A batch may take this share of the median budget: the rest is for waiting for an engine. */
const BATCH_SHARE = 0.5;

export function longestBatchMs(budgets: readonly number[]): number {
  return BATCH_SHARE * (budgets[budgets.length >> 1] ?? Infinity);
}

/** An efficient batch takes at most this many times the least time per image. */
const EFFICIENT = 1.05;

/** A schedule in efficient batches on the cheapest tiers, in order of deadlines. */
export interface Steady {
  /** Whether it meets every deadline. */
  readonly inTime: boolean;
  /** When it would be through with all of the queue and one efficient batch more. */
  readonly batchBehind: number;
}

/** What keeps up without wasting engine time: no batch smaller than an efficient one but the last. */
export function steadySchedule(
  deadlines: ArrayLike<number>,
  floors: ArrayLike<number>,
  costs: Costs,
  engines: number,
  start: number,
  longestMs: number,
): Steady {
  const enough = EFFICIENT * costs.efficientMs(0, longestMs);
  let size = 1;
  while (size < costs.maxBatch && costs.busyMs(0, size) > size * enough) size++;

  const length = deadlines.length;
  let inTime = true;
  let at = start;
  let slowest = 0;
  for (let i = 0; i < length; i += size) {
    const batch = Math.min(size, length - i);
    let floor = 0;
    for (let k = i; k < i + batch; k++) floor = Math.max(floor, floors[k]!);
    if (at + costs.ms(floor, batch) > deadlines[i]!) inTime = false;
    at += costs.busyMs(floor, batch) / engines;
    slowest = Math.max(slowest, floor);
  }
  return { inTime, batchBehind: at + costs.ms(slowest, size) };
}

/**
 * When the engines, seen as one that starts a batch every L / engines, can start the next: the
 * first to come free, unless the others are so far behind that the work piles up for it.
 */
export function nextStart(freeAt: readonly number[], now: number, fullBatchMs: number): number {
  let first = Infinity;
  let sum = 0;
  for (const at of freeAt) {
    const free = Math.max(at, now);
    first = Math.min(first, free);
    sum += free;
  }
  const engines = freeAt.length;
  // Evenly staggered engines come free, on average, half a batch after the first.
  return Math.max(first, sum / engines - ((engines - 1) / (2 * engines)) * fullBatchMs);
}
