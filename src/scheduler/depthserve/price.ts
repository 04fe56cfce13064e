import { admitted } from '../policy.ts';
import type { ArrivalForecast, View, Waiting } from '../policy.ts';
import type { Costs } from './costs.ts';
import { Demand } from './demand.ts';
import { secondLookSteps, secondMs } from './gain.ts';
import { latestPlan, longestBatchMs, nextStart } from './plan.ts';

/** What engine time is worth, and what that leaves of a request's value. */
export interface Price {
  /** Accuracy expected to be lost elsewhere for every ms of engine time. */
  readonly perMs: number;
  /** Worth of answering one more request, less the engine time that it takes. */
  readonly request: number;
}

/**
 * A way to answer everything that is worth mixing with its neighbours: a corner of the hull of
 * accuracy over time. Either a tier alone, or a tier and second looks at those it is least sure of.
 */
interface Level {
  readonly tier: number;
  readonly accuracy: number;
  /** Engine time per image in efficient batches, ms, second looks included. */
  readonly ms: number;
  /** The same over the time of the first look alone. */
  readonly stretch: number;
  /** Accuracy gained per ms over the level below; the lowest: over no answer. */
  readonly slope: number;
  /** What the scatter of batch times adds to the dispersion of the demand. */
  readonly scatter: number;
}

/** What a view lets expect. */
export function outlookOf(view: View, costs: Costs): Outlook {
  const { now, arrivals, enginesFreeAt, maxBatch } = view;
  const queue = admitted(view);
  return {
    queue,
    floors: costs.floors(queue),
    now,
    start: nextStart(enginesFreeAt, now, costs.busyMs(0, maxBatch)),
    engines: enginesFreeAt.length,
    arrivals,
    demand: new Demand(arrivals),
  };
}

export interface Outlook {
  readonly queue: readonly Waiting[];
  readonly floors: Int32Array;
  readonly now: number;
  /** When the next batch can start. */
  readonly start: number;
  readonly engines: number;
  readonly arrivals: ArrivalForecast;
  readonly demand: Demand;
}

/** Looks this many longest budgets ahead for accuracy; what comes later can still be mended. */
const NEAR = [1, 2];
/** And this many for losing answers, which nothing mends. */
const FAR = [1, 2, 4, 8, 16];
/** Caution: variance of the demand is taken this many times for losing answers. */
export const CAUTION = 2;

/**
 * The price of engine time: the expected dual of the problem of how deep to answer what waits and
 * what will come. If everything from now on ran at one level, would the demand fit? Its plan has
 * some slack at every deadline; the demand to come is known but for its variance; so there is a
 * probability that a ms spent now must be taken back at that level, at the level's slope.
 */
export function priceOf(outlook: Outlook, costs: Costs): Price {
  const { queue, now, arrivals, demand } = outlook;
  const levels = levelsOf(costs, arrivals.budgets);
  // Who will come and be due before each of those that wait.
  const due = new Float64Array(queue.length);
  for (let i = 0; i < due.length; i++) due[i] = demand.dueWithin(queue[i]!.deadline - now);
  // Once the engines rest, what they were spent on before is forgotten. How long they go on
  // without grows with load and bursts, as waiting does (Kingman's factor).
  const busy = (arrivals.rate * levels[0]!.ms) / outlook.engines;
  const remembered = Math.min(1, (busy * (1 + arrivals.dispersion)) / 2);
  const shortfall = (index: number) => {
    const lowest = index === 0;
    const slack = standardSlack(outlook, due, costs, levels[index]!, lowest);
    return (lowest ? remembered : 1) * normalTail(slack);
  };
  let perMs = 0;
  let below = 0;
  for (let index = 0; index < levels.length && below < 0.9999; index++) {
    // A deeper level is never easier to keep up.
    const probability = Math.max(below, shortfall(index));
    perMs += levels[index]!.slope * (probability - below);
    below = probability;
  }
  let request = 0;
  for (const { accuracy, ms } of levels) request = Math.max(request, accuracy - perMs * ms);
  return { perMs, request };
}

/**
 * The tightest slack of running everything at `level`, in standard deviations of the demand that
 * it has to absorb.
 */
function standardSlack(
  outlook: Outlook,
  due: Float64Array,
  costs: Costs,
  level: Level,
  lowest: boolean,
): number {
  const { queue, floors, now, engines, arrivals, demand } = outlook;
  const perRequest = level.ms / engines;
  const length = queue.length;
  const deadlines = new Float64Array(length);
  const tiers = new Int32Array(length);
  for (let i = 0; i < length; i++) {
    // Who is due earlier goes first, and takes this much of the time.
    deadlines[i] = queue[i]!.deadline - perRequest * due[i]!;
    tiers[i] = Math.max(floors[i]!, level.tier);
    // Who has no time for the level takes the deepest that there is time for.
    while (tiers[i]! > floors[i]! && now + costs.ms(tiers[i]!, 1) > queue[i]!.deadline) tiers[i]!--;
  }
  const { size } = latestPlan(deadlines, tiers, costs, engines);
  const longest = arrivals.budgets.at(-1) ?? 0;

  let least = Infinity;
  let start = outlook.start;
  for (let i = 0; i < length;) {
    const batch = size[i]!;
    let tier = 0;
    for (let k = i; k < i + batch; k++) tier = Math.max(tier, tiers[k]!);
    const slack = deadlines[i]! - start - costs.ms(tier, batch);
    least = Math.min(least, demand.deviations(slack / perRequest, due[i]!, 1, level.scatter));
    start += (level.stretch * costs.busyMs(tier, batch)) / engines;
    i += batch;
  }

  const last = length === 0 ? 0 : queue[length - 1]!.deadline - now;
  for (const horizons of lowest ? FAR : NEAR) {
    const ms = Math.max(horizons * longest, last);
    const count = demand.dueWithin(ms);
    const room = (now + ms - start) / perRequest - count;
    least = Math.min(least, demand.deviations(room, count, lowest ? CAUTION : 1, level.scatter));
  }
  return least;
}

/** The corners of the concave hull of accuracy over engine time, cheapest first. */
function levelsOf(costs: Costs, budgets: readonly number[]): Level[] {
  const limit = longestBatchMs(budgets);
  const points: Omit<Level, 'slope'>[] = [];
  for (let tier = 0; tier < costs.tiers.length; tier++) {
    const { accuracy } = costs.tiers[tier]!;
    const ms = costs.efficientMs(tier, limit);
    const scatter = scatterOf(costs, tier, limit);
    points.push({ tier, accuracy, ms, stretch: 1, scatter });
    for (const more of secondLookSteps(
      costs.tiers[tier]!,
      secondMs(costs.tiers[tier]!, costs, limit),
    )) {
      const all = ms + more.ms;
      points.push({ tier, accuracy: accuracy + more.gain, ms: all, stretch: all / ms, scatter });
    }
  }
  if (points.length > costs.tiers.length) points.sort((a, b) => a.ms - b.ms);
  const levels: Level[] = [];
  for (const point of points) {
    for (;;) {
      const last = levels.at(-1);
      if (!last) {
        levels.push({ ...point, slope: point.accuracy / point.ms });
        break;
      }
      const slope = (point.accuracy - last.accuracy) / (point.ms - last.ms);
      if (point.ms > last.ms && (levels.length === 1 || slope < last.slope)) {
        if (slope > 0) levels.push({ ...point, slope });
        break;
      }
      levels.pop();
    }
  }
  return levels;
}

/** Of a normal distribution, the 95th percentile lies this many standard deviations up. */
export const P95 = 1.645;

/**
 * Variance over mean of how many images batches get through with in some time: a batch of b that
 * takes t, give or take s, is b (s / t)^2 of it. It adds to that of the arrivals, as in Kingman's
 * formula.
 */
function scatterOf(costs: Costs, tier: number, limit: number): number {
  let batch = 1;
  while (batch < costs.maxBatch && costs.ms(tier, batch + 1) <= limit) batch++;
  const variation = (costs.ms(tier, batch) / costs.busyMs(tier, batch) - 1) / P95;
  return batch * variation ** 2;
}

/** P(X > z) of a standard normal (Abramowitz and Stegun 26.2.17, error below 1e-7). */
export function normalTail(z: number): number {
  if (z > 8) return 0;
  if (z < -8) return 1;
  const t = 1 / (1 + 0.2316419 * Math.abs(z));
  const series =
    t *
    (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  const tail = 0.3989422804 * Math.exp((-z * z) / 2) * series;
  return z > 0 ? tail : 1 - tail;
}
