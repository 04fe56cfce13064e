import { dense } from '../../../src/scheduler/latency.ts';
import type { SecondLook, Tier } from '../../../src/scheduler/policy.ts';
import type { Request } from '../arrivals.ts';
import type { Profile } from '../tables.ts';
import { rising } from './batches.ts';

/** What nobody can exceed, not even knowing all arrivals beforehand. */
export interface Bound {
  /** Share of the requests that can at most be answered in time. */
  readonly attainment: number;
  /** `delivered / attainment`. */
  readonly accuracy: number;
  /** Sum of accuracies answered in time, over the number of requests, at most. */
  readonly delivered: number;
}

/** The bound may lie this share above what the relaxation allows: layers are cut until it does. */
const PRECISION = 2e-4;

/**
 * A clairvoyant upper bound by relaxation: work may be preempted, moved and cut, and every image
 * takes no more engine time than its share of the most efficient batch that could contain it.
 * docs/bound.md argues why that bounds every schedule. With second looks, it bounds what is
 * expected: it knows all arrivals, but not how sure a first look will be.
 */
export function divisibleBound(
  profile: Profile,
  requests: readonly Request[],
  engines: number,
): Bound {
  const total = requests.length;
  const shares = engineShares(profile, requests);
  const gains = requests.map((request, i) => concaveGains(profile.tiers, request, shares, i));

  // A request answered at all takes at least its cheapest share; counting 1 gives attainment.
  const counts = requests.map((request, i) => {
    const least = Math.min(...offers(profile.tiers, request, shares, i).map(({ until }) => until));
    return least < Infinity ? [{ until: least, slope: 1 / least }] : [];
  });
  const attainment = Math.min(1, layered(counts, requests, engines) / total);
  const delivered = layered(gains, requests, engines) / total;
  return { attainment, accuracy: attainment === 0 ? 0 : delivered / attainment, delivered };
}

/** One linear piece of what engine time buys a request: up to `until` ms, `slope` per ms. */
interface Piece {
  readonly until: number;
  readonly slope: number;
}

/**
 * Upper bound on the sum of concave gains of engine time given to requests within their windows:
 * the integral, over thresholds, of the most time that can be given where it gains more than the
 * threshold (each layer by itself). The integrand falls with the threshold, so that its value at
 * the left end of an interval bounds the interval from above, and the intervals where that may
 * be far too high are halved.
 */
function layered(
  gains: readonly (readonly Piece[])[],
  requests: readonly Request[],
  engines: number,
): number {
  const slopes = gains.flatMap((pieces) => pieces.map(({ slope }) => slope));
  const thresholds = [...new Set([0, ...slopes])].sort((a, b) => a - b);
  const order = requests
    .map((_, i) => i)
    .sort((a, b) => requests[a]!.arrivedAt - requests[b]!.arrivedAt);
  const workAbove = (index: number) => {
    const least = thresholds[index]!;
    const caps = gains.map((pieces) => pieces.findLast(({ slope }) => slope > least)?.until ?? 0);
    return mostWork(caps, order, requests, engines);
  };

  const last = thresholds.length - 1;
  const layers = [{ from: 0, to: last, high: workAbove(0), low: 0 }];
  const width = ({ from, to }: (typeof layers)[number]) => thresholds[to]! - thresholds[from]!;
  // A single step between neighbouring thresholds is exact.
  const excess = (layer: (typeof layers)[number]) =>
    layer.to - layer.from <= 1 ? 0 : width(layer) * (layer.high - layer.low);
  for (;;) {
    const sum = layers.reduce((total, layer) => total + width(layer) * layer.high, 0);
    const worst = layers.reduce((a, b) => (excess(b) > excess(a) ? b : a));
    const surplus = layers.reduce((total, layer) => total + excess(layer), 0);
    if (surplus <= PRECISION * sum) return sum;
    const middle = nearest(
      thresholds,
      (thresholds[worst.from]! + thresholds[worst.to]!) / 2,
      worst,
    );
    const work = workAbove(middle);
    layers.push({ from: middle, to: worst.to, high: work, low: worst.low });
    worst.to = middle;
    worst.low = work;
  }
}

/** Index strictly between `from` and `to` of the value next to `wanted`. */
function nearest(
  ascending: readonly number[],
  wanted: number,
  { from, to }: { readonly from: number; readonly to: number },
): number {
  let low = from + 1;
  let high = to - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle]! < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The most engine time (ms) that can be given to requests between arrival and deadline, request i
 * getting at most `caps[i]`: earliest deadline first with preemption on one engine as fast as all
 * together, which processes as much as any schedule can.
 */
function mostWork(
  caps: readonly number[],
  order: readonly number[],
  requests: readonly Request[],
  engines: number,
): number {
  const heap = new DeadlineHeap();
  let now = 0;
  let done = 0;
  const workUntil = (end: number) => {
    while (now < end && heap.size > 0) {
      const top = heap.top();
      if (top.deadline <= now) {
        heap.pop();
        continue;
      }
      const ms = Math.min(top.left / engines, end - now, top.deadline - now);
      now += ms;
      done += ms * engines;
      top.left -= ms * engines;
      if (top.left <= 1e-12) heap.pop();
    }
    now = Math.max(now, end);
  };
  for (const i of order) {
    const { arrivedAt, budget } = requests[i]!;
    workUntil(arrivedAt);
    if (caps[i]! > 0) heap.push({ deadline: arrivedAt + budget, left: caps[i]! });
  }
  workUntil(Infinity);
  return done;
}

/**
 * The least engine time (ms) for one image of request i on each tier: its share of the most
 * efficient batch that could contain it. Such a batch needs a moment at which `batch` requests
 * are there and still have the batch's time left, within the request's own window.
 * Infinity where no batch can answer it. `shares[tier][request]`
 */
function engineShares(
  { tiers, latency, maxBatch }: Profile,
  requests: readonly Request[],
): Float64Array[] {
  const byArrival = [...requests].sort((a, b) => a.arrivedAt - b.arrivedAt);
  const byDeadline = [...requests].sort(
    (a, b) => a.arrivedAt + a.budget - (b.arrivedAt + b.budget),
  );
  return tiers.map(({ skip }) => {
    // Who is late in a larger batch may be left out, and need not be counted.
    const times = rising(dense(latency[skip]!).slice(0, maxBatch + 1));
    const share = new Float64Array(requests.length).fill(Infinity);
    for (let batch = 1; batch < times.length; batch++) {
      const ms = times[batch]!;
      const starts = possibleStarts(byArrival, byDeadline, ms, batch);
      requests.forEach(({ arrivedAt, budget }, i) => {
        if (ms / batch >= share[i]!) return;
        const latest = arrivedAt + budget - ms + ROUNDING_MS;
        if (latest >= arrivedAt && overlaps(starts, arrivedAt, latest)) share[i] = ms / batch;
      });
    }
    return share;
  });
}

/** A deadline met but for a rounding error is met. */
const ROUNDING_MS = 1e-6;

/** Disjoint intervals [from0, to0, from1, to1, ...] in which `batch` requests could start together. */
function possibleStarts(
  byArrival: readonly Request[],
  byDeadline: readonly Request[],
  ms: number,
  batch: number,
): number[] {
  // A member must have arrived, and have the time left: it counts from one moment to another.
  const canWait = ({ budget }: Request) => budget + ROUNDING_MS >= ms;
  const comes = byArrival.filter(canWait).map(({ arrivedAt }) => arrivedAt);
  const leaves = byDeadline
    .filter(canWait)
    .map(({ arrivedAt, budget }) => arrivedAt + budget - ms + ROUNDING_MS);
  const intervals: number[] = [];
  for (let come = 0, leave = 0; leave < leaves.length;) {
    if (come < comes.length && comes[come]! <= leaves[leave]!) {
      if (++come - leave === batch) intervals.push(comes[come - 1]!);
    } else {
      if (come - leave === batch) intervals.push(leaves[leave]!);
      leave++;
    }
  }
  return intervals;
}

/** Whether [from, to] meets one of the ascending intervals. */
function overlaps(intervals: readonly number[], from: number, to: number): boolean {
  let low = 0;
  let high = intervals.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (intervals[2 * middle + 1]! < from) low = middle + 1;
    else high = middle;
  }
  return 2 * low < intervals.length && intervals[2 * low]! <= to;
}

interface Offer {
  /** Engine time, ms. */
  readonly until: number;
  readonly accuracy: number;
}

/** Accuracy that engine time buys: every tier that the floor allows, and second looks after it. */
function offers(
  tiers: readonly Tier[],
  { minAccuracy }: Request,
  shares: readonly Float64Array[],
  request: number,
): Offer[] {
  return tiers.flatMap((tier, i) => {
    const first = { until: shares[i]![request]!, accuracy: tier.accuracy };
    if (first.until === Infinity || tier.accuracy < minAccuracy) return [];
    const second = tiers.findIndex(({ skip }) => skip === tier.again?.skip);
    const more = second < 0 ? Infinity : shares[second]![request]!;
    return [first, ...(more === Infinity ? [] : lookedAgain(first, tier.again!, more))];
  });
}

/**
 * With second looks of `ms` at the least sure images, one bin more each time. Nobody knows how sure
 * a first look will be, so what counts are time and accuracy as they are expected.
 */
function lookedAgain({ until, accuracy }: Offer, { bins }: SecondLook, ms: number): Offer[] {
  return bins.map(({ share, first, second }) => {
    until += share * ms;
    accuracy += share * (second - first);
    return { until, accuracy };
  });
}

/** The concave hull, from (0 ms, accuracy 0), of what the tiers offer. */
function concaveGains(
  tiers: readonly Tier[],
  request: Request,
  shares: readonly Float64Array[],
  index: number,
): Piece[] {
  const points = offers(tiers, request, shares, index).sort((a, b) => a.until - b.until);
  const hull: { until: number; accuracy: number; slope: number }[] = [];
  for (const { until, accuracy } of points) {
    if (accuracy <= (hull.at(-1)?.accuracy ?? 0)) continue;
    for (;;) {
      const last = hull.at(-1);
      const slope = (accuracy - (last?.accuracy ?? 0)) / (until - (last?.until ?? 0));
      if (!last || slope < last.slope) {
        hull.push({ until, accuracy, slope });
        break;
      }
      hull.pop();
    }
  }
  return hull;
}

/** Binary heap, earliest deadline first. */
class DeadlineHeap {
  readonly #items: { readonly deadline: number; left: number }[] = [];

  get size(): number {
    return this.#items.length;
  }

  top(): { readonly deadline: number; left: number } {
    return this.#items[0]!;
  }

  push(item: { deadline: number; left: number }): void {
    const items = this.#items;
    let i = items.push(item) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (items[parent]!.deadline <= item.deadline) break;
      items[i] = items[parent]!;
      i = parent;
    }
    items[i] = item;
  }

  pop(): void {
    const items = this.#items;
    const last = items.pop()!;
    if (items.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && items[child + 1]!.deadline < items[child]!.deadline) child++;
      if (items[child]!.deadline >= last.deadline) break;
      items[i] = items[child]!;
      i = child;
    }
    items[i] = last;
  }
}
