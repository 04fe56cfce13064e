import type { View } from '../policy.ts';
import { atMostMs, busyMs } from './costs.ts';
import { HORIZON } from './demand.ts';
import type { Demand } from './demand.ts';
import { P95, normalTail } from './distributions.ts';
import { levelsOf, slope } from './levels.ts';
import type { Way } from './levels.ts';
import { planOf, startOf } from './plan.ts';

/** What engine time is worth, and what that leaves of a request's value. */
export interface Price {
  /** Accuracy expected to be lost elsewhere for every ms of engine time. */
  readonly perMs: number;
  /** Worth of answering one more request, less the engine time that it takes. */
  readonly request: number;
}

/** A level that is kept up, or not, but for this chance makes no deeper one any different. */
const NEGLIGIBLE = 1e-3;

/**
 * The price of engine time: the expected dual of the problem of how deep to answer what waits and
 * what will come. If everything from now on ran at one level, would the demand fit? Its plan has
 * some slack at every deadline; the demand to come is known but for its variance; so there is a
 * probability that a ms spent now must be taken back at that level, at the level's slope.
 *
 * @param ways to answer everything.
 * @param gone how many of the first are given up.
 */
export function priceOf(view: View, ways: readonly Way[], demand: Demand, gone = 0): Price {
  const levels = levelsOf(ways);
  const dues = duesOf(view, demand, gone);
  let perMs = 0;
  let below = 0;
  let last = { accuracy: 0, ms: 0 };
  for (const level of levels) {
    if (below > 1 - NEGLIGIBLE) break;
    // A deeper level is never easier to keep up.
    const probability = Math.max(below, normalTail(tightest(view, dues, demand, level)));
    perMs += slope(last, level) * (probability - below);
    below = probability;
    last = level;
  }
  const request = Math.max(0, ...levels.map(({ accuracy, ms }) => accuracy - perMs * ms));
  return { perMs, request };
}

/** By when a batch of the plan must be done, and how many who will come are due before. */
interface Due {
  /** 0: nothing waits for this deadline, it is as far as the forecast is looked at. */
  readonly batch: number;
  readonly floor: number;
  readonly deadline: number;
  readonly count: number;
}

function duesOf(view: View, demand: Demand, gone: number): Due[] {
  const { now, admitted, arrivals } = view;
  const { size, tier } = planOf(view);
  const dues: Due[] = [];
  const add = (batch: number, floor: number, deadline: number) =>
    dues.push({ batch, floor, deadline, count: demand.dueWithin(deadline - now) });
  for (let i = gone; i < admitted.length; i += size[i]!) {
    add(size[i]!, tier[i]!, admitted[i + size[i]! - 1]!.deadline);
  }
  const ahead = now + HORIZON * (arrivals.budgets.at(-1) ?? 0);
  add(0, 0, Math.max(ahead, admitted.at(-1)?.deadline ?? now));
  return dues;
}

/** Least slack of answering everything that `way`, in standard deviations of the demand to absorb. */
function tightest(view: View, dues: readonly Due[], demand: Demand, way: Way): number {
  const engines = view.enginesFreeAt.length;
  const perRequest = way.ms / engines;
  // Variance over mean of how many images get through: of batches of b in t ms, give or take s.
  const excess = atMostMs(view, way.tier, way.batch) / (way.batch * way.imageMs) - 1;
  const scatter = way.batch * (excess / P95) ** 2;
  let start = startOf(view);
  let least = Infinity;
  for (const { batch, floor, deadline, count } of dues) {
    let slack = deadline - start;
    if (batch > 0) {
      let tier = Math.max(way.tier, floor);
      // Who has no time for the level takes the deepest that there is time for.
      while (tier > floor && view.now + atMostMs(view, tier, batch) > deadline) tier--;
      slack -= atMostMs(view, tier, batch);
      start += ((way.ms / way.imageMs) * busyMs(view, tier, batch)) / engines;
    }
    least = Math.min(least, demand.deviations(slack / perRequest - count, count, scatter));
  }
  return least;
}
