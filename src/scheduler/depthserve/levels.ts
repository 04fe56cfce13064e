import type { Tier, View } from '../policy.ts';
import { costsOf } from './costs.ts';
import type { Costs, Efficient } from './costs.ts';

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
  /** The batches of first looks. */
  readonly first: Efficient;
}

/** A way that is worth mixing with its neighbours: a corner of the hull of accuracy over time. */
export interface Level {
  readonly way: Way;
  /** Accuracy gained per ms over the level below; the lowest: over no answer. */
  readonly slope: number;
}

interface Levels {
  readonly limit: number;
  /** By tier. */
  readonly efficient: readonly Efficient[];
  readonly ways: readonly Way[];
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
  const efficient = costs.tiers.map((_, tier) => costs.efficient(tier, limit));
  const ways = waysOf(costs, efficient);
  const levels = { limit, efficient, ways, levels: hullOf(ways) };
  known.set(costs, levels);
  return levels;
}

/** Index of the tier of the second look; -1: there is none on the front. */
export function secondOf({ again }: Tier, { tiers }: Costs): number {
  return again ? tiers.findIndex(({ skip }) => skip === again.skip) : -1;
}

function waysOf(costs: Costs, efficient: readonly Efficient[]): Way[] {
  const ways: Way[] = [];
  efficient.forEach((first, tier) => {
    const { accuracy: alone, again } = costs.tiers[tier]!;
    let accuracy = alone;
    let ms = first.imageMs;
    ways.push({ tier, accuracy, ms, first });
    const second = efficient[secondOf(costs.tiers[tier]!, costs)];
    for (const bin of second ? again!.bins : []) {
      if (bin.second <= bin.first) break;
      accuracy += COMES_ABOUT * bin.share * (bin.second - bin.first);
      ms += bin.share * second!.imageMs;
      ways.push({ tier, accuracy, ms, first });
    }
  });
  return ways;
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
