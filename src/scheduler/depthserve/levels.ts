import type { Tier, View } from '../policy.ts';
import { efficient } from './costs.ts';
import type { Efficient } from './costs.ts';

/** A batch may take this share of the median budget: the rest is for waiting for an engine. */
const BATCH_SHARE = 0.5;

/**
 * Share of the second looks that a first look hopes for that come about: the rest finds no engine
 * in time. It also settles the choice at low load: one deep look, rather than two.
 */
const COMES_ABOUT = 0.9;

/**
 * A way to answer everything: by one tier, or with second looks at those it is least sure of. The
 * batches are those of first looks.
 */
export interface Way extends Efficient {
  readonly tier: number;
  readonly accuracy: number;
  /** Engine time per image in efficient batches, ms, second looks included. */
  readonly ms: number;
}

/** Index of the tier of the second look; -1: there is none on the front. */
export function secondOf({ again }: Tier, { tiers }: View): number {
  return again ? tiers.findIndex(({ skip }) => skip === again.skip) : -1;
}

/** By tier, the one without second looks first. */
export function waysOf(view: View): Way[] {
  const { budgets } = view.arrivals;
  const limit = BATCH_SHARE * (budgets[budgets.length >> 1] ?? Infinity);
  const firsts = view.tiers.map((_, tier) => efficient(view, tier, limit));
  const ways: Way[] = [];
  firsts.forEach(({ batch, imageMs }, tier) => {
    const { accuracy: alone, again } = view.tiers[tier]!;
    let accuracy = alone;
    let ms = imageMs;
    ways.push({ tier, batch, imageMs, accuracy, ms });
    const second = firsts[secondOf(view.tiers[tier]!, view)];
    for (const bin of second ? again!.bins : []) {
      if (bin.second <= bin.first) break;
      accuracy += COMES_ABOUT * bin.share * (bin.second - bin.first);
      ms += bin.share * second!.imageMs;
      ways.push({ tier, batch, imageMs, accuracy, ms });
    }
  });
  return ways;
}

/** Accuracy gained for each ms more. */
export function slope(from: Pick<Way, 'accuracy' | 'ms'>, to: Way): number {
  return (to.accuracy - from.accuracy) / (to.ms - from.ms);
}

/**
 * Those that are worth mixing with their neighbours: corners of the concave hull of accuracy over
 * time, from the cheapest way on.
 */
export function levelsOf(ways: readonly Way[]): Way[] {
  const levels: Way[] = [];
  for (let next = ways[0]; next;) {
    const level: Way = next;
    levels.push(level);
    next = undefined;
    let steepest = 0;
    for (const way of ways) {
      if (way.ms <= level.ms || !(slope(level, way) > steepest)) continue;
      steepest = slope(level, way);
      next = way;
    }
  }
  return levels;
}
