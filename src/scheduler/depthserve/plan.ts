import type { View, Waiting } from '../policy.ts';
import { costsOf } from './costs.ts';
import type { Costs } from './costs.ts';

/**
 * The latest schedule that still answers a whole queue in time, on the cheapest tiers that floors
 * allow. By position: dynamic programme from the last deadline to the first.
 *
 * All requests are there and take equally long, so by an exchange of neighbours batches of
 * consecutive deadlines are as good as any; and for the same reason the best requests to give up
 * are always the earliest: what remains has later deadlines than after giving up any others. So
 * `latest` is exact for one engine and also tells how many must be given up. Several engines are
 * taken for one that can start a batch every L / engines.
 */
export interface Plan {
  readonly deadlines: Float64Array;
  /** Index of the cheapest tier that each accepts. */
  readonly floors: Int32Array;
  /**
   * The latest time at which an engine may come free and still answer everything from there on.
   * One entry more than the queue: nothing can wait for ever.
   */
  readonly latest: Float64Array;
  /** Size of the batch that starts there. */
  readonly size: Int32Array;
}

/** The plan of each list of requests that there is: between two changes it is asked many times. */
const known = new WeakMap<readonly Waiting[], { costs: Costs; engines: number; plan: Plan }>();

export function planOf(view: View): Plan {
  const queue = view.admitted;
  const costs = costsOf(view);
  const engines = view.enginesFreeAt.length;
  const last = known.get(queue);
  if (last && last.costs === costs && last.engines === engines) return last.plan;
  const plan = latestPlan(queue, costs, engines);
  known.set(queue, { costs, engines, plan });
  return plan;
}

/** What is left of a view when the first `lost` of its plan are given up; so is its plan. */
export function giveUpFirst(view: View, lost: number): View {
  if (lost === 0) return view;
  const plan = planOf(view);
  const admitted = view.admitted.slice(lost);
  known.set(admitted, {
    costs: costsOf(view),
    engines: view.enginesFreeAt.length,
    plan: {
      deadlines: plan.deadlines.subarray(lost),
      floors: plan.floors.subarray(lost),
      latest: plan.latest.subarray(lost),
      size: plan.size.subarray(lost),
    },
  });
  const ids = new Set(view.admitted.slice(0, lost).map(({ id }) => id));
  return { ...view, admitted, queue: view.queue.filter(({ id }) => !ids.has(id)) };
}

function latestPlan(queue: readonly Waiting[], costs: Costs, engines: number): Plan {
  const { maxBatch, sizes, allBusyMs, width } = costs;
  const length = queue.length;
  const floors = costs.floors(queue);
  const deadlines = new Float64Array(length);
  for (let i = 0; i < length; i++) deadlines[i] = queue[i]!.deadline;
  const latest = new Float64Array(length + 1);
  const size = new Int32Array(length);
  latest[length] = Infinity;
  const first = floors[0] ?? 0;
  const alike = floors.every((floor) => floor === first);
  let row = first * width;
  // Most of what a decision does is here: no call, and no look-up but in typed arrays.
  for (let i = length - 1; i >= 0; i--) {
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
      const ms = allBusyMs[row + batch]!;
      const inTime = deadline - ms;
      const behind = latest[i + batch]! - ms / engines;
      const start = inTime < behind ? inTime : behind;
      // At equal times the larger batch.
      if (start >= best) {
        best = start;
        bestSize = batch;
      } else if (inTime < best) break;
    }
    latest[i] = best;
    size[i] = bestSize;
  }
  return { deadlines, floors, latest, size };
}

/** Of the batch that starts at `i`: the cheapest tier that all of it accept. */
export function floorAt({ floors, size }: Plan, i: number): number {
  let floor = 0;
  for (let k = i; k < i + size[i]!; k++) floor = Math.max(floor, floors[k]!);
  return floor;
}

/** First position at or after `from` whose rest can be served by an engine free at `time`. */
export function firstFeasible(latest: Float64Array, from: number, time: number): number {
  let low = from;
  let high = latest.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (latest[middle]! >= time - ROUNDING_MS) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Two ways to add the same times may differ by this. */
export const ROUNDING_MS = 1e-9;

/** When the next batch can start. */
export function startOf(view: View): number {
  return nextStart(view.enginesFreeAt, view.now, costsOf(view).busyMs(0, view.maxBatch));
}

/**
 * When the engines, seen as one that starts a batch every L / engines, can start the next: the
 * first to come free, unless the others are so far behind that the work piles up for it.
 */
export function nextStart(freeAt: readonly number[], now: number, fullBatchMs: number): number {
  const engines = freeAt.length;
  if (engines === 1) return Math.max(freeAt[0]!, now);
  let first = Infinity;
  let sum = 0;
  for (const at of freeAt) {
    const free = Math.max(at, now);
    first = Math.min(first, free);
    sum += free;
  }
  // Evenly staggered engines come free, on average, half a batch after the first.
  return Math.max(first, sum / engines - ((engines - 1) / (2 * engines)) * fullBatchMs);
}

/** When engines come free; which of them is, and when the first of the others will be. */
export function engines({ enginesFreeAt, now }: View): {
  readonly freeAt: number[];
  readonly mine: number;
  readonly otherFree: number;
} {
  const freeAt = [...enginesFreeAt];
  const mine = freeAt.findIndex((at) => at <= now);
  const otherFree = Math.min(...freeAt.map((at, i) => (i === mine ? Infinity : Math.max(at, now))));
  return { freeAt, mine, otherFree };
}
