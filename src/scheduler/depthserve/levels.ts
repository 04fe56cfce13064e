import type { Tier, View } from '../policy.ts';
import { costsOf } from './costs.ts';
import type { Costs } from './costs.ts';
import { P95 } from './distributions.ts';

/** A batch may take this share of the median budget: the rest is for waiting for an engine. */
const BATCH_SHARE = 0.5;

/**
 * Share of the second looks that a first look hopes for that come about: the rest finds no engine
 * in time. It also settles the choice at low load: one deep look, rather than two.
 */
const COMES_ABOUT = 0.9;

/** A way to answer everything: by one tier, or with second looks at those it is least sure of. */
export interface Way {
  readonly tier: number;
  readonly accuracy: number;
  /** Engine time per image in efficient batches, ms, second looks included. */
  readonly ms: number;
  /** The same over the time of the first look alone. */
  readonly stretch: number;
  /** Variance over mean of how many images batches get through with in some time. */
  readonly scatter: number;
}

/** A way that is worth mixing with its neighbours: a corner of the hull of accuracy over time. */
export interface Level {
  readonly way: Way;
  /** Accuracy gained per ms over the level below; the lowest: over no answer. */
  readonly slope: number;
}

/** Index of the tier of the second look; -1: there is none on the front. */
export function secondOf({ again }: Tier, { tiers }: Costs): number {
  return again ? tiers.findIndex(({ skip }) => skip === again.skip) : -1;
}

interface Levels {
  readonly limit: number;
  /** By tier: alone first, then with ever more second looks. */
  readonly ways: readonly (readonly Way[])[];
  /** Cheapest first. */
  readonly levels: readonly Level[];
}

const known = new WeakMap<Costs, Levels>();

export function levelsOf(view: View): Levels {
  const costs = costsOf(view);
  const { budgets } = view.arrivals;
  const limit = BATCH_SHARE * (budgets[budgets.length >> 1] ?? Infinity);
  const last = known.get(costs);
  if (last?.limit === limit) return last;
  const ways = waysOf(costs, limit);
  const levels = { limit, ways, levels: hullOf(ways.flat()) };
  known.set(costs, levels);
  return levels;
}

function waysOf(costs: Costs, limit: number): Way[][] {
  const efficient = costs.tiers.map((_, tier) => costs.efficient(tier, limit));
  return costs.tiers.map((first, tier) => {
    const { batch, imageMs } = efficient[tier]!;
    // A batch of b that takes t, give or take s, is b (s / t)^2 of it.
    const scatter = batch * ((costs.ms(tier, batch) / (batch * imageMs) - 1) / P95) ** 2;
    let { accuracy } = first;
    let ms = imageMs;
    const ways = [{ tier, accuracy, ms, stretch: 1, scatter }];
    const second = efficient[secondOf(first, costs)];
    if (!second) return ways;
    for (const bin of first.again!.bins) {
      if (bin.second <= bin.first) break;
      accuracy += COMES_ABOUT * bin.share * (bin.second - bin.first);
      ms += bin.share * second.imageMs;
      ways.push({ tier, accuracy, ms, stretch: ms / imageMs, scatter });
    }
    return ways;
  });
}

/** Corners of the concave hull of accuracy over time, from the cheapest way on. */
function hullOf(ways: readonly Way[]): Level[] {
  const levels: Level[] = [];
  let next: Way | undefined = ways[0];
  let slope = ways[0]!.accuracy / ways[0]!.ms;
  while (next) {
    const way: Way = next;
    levels.push({ way, slope });
    next = undefined;
    slope = 0;
    for (const other of ways) {
      const steeper = (other.accuracy - way.accuracy) / (other.ms - way.ms);
      if (other.ms > way.ms && steeper > slope) {
        slope = steeper;
        next = other;
      }
    }
  }
  return levels;
}
