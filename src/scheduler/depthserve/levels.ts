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
export interface Level extends Way {
  /** Accuracy gained per ms over the level below; the lowest: over no answer. */
  readonly slope: number;
}

interface Levels {
  /** By tier: alone first, then with ever more second looks. */
  readonly ways: readonly (readonly Way[])[];
  /** Cheapest first. */
  readonly levels: readonly Level[];
}

/** Longest time of a batch that is efficient and leaves time to wait for it. */
export function longestBatchMs({ arrivals: { budgets } }: View): number {
  return BATCH_SHARE * (budgets[budgets.length >> 1] ?? Infinity);
}

/** Index of the tier of the second look; -1: there is none on the front. */
export function secondOf({ again }: Tier, { tiers }: Costs): number {
  return again ? tiers.findIndex(({ skip }) => skip === again.skip) : -1;
}

const known = new WeakMap<Costs, Levels & { readonly limit: number }>();

export function levelsOf(view: View): Levels {
  const costs = costsOf(view);
  const limit = longestBatchMs(view);
  const last = known.get(costs);
  if (last && last.limit === limit) return last;
  const ways = costs.tiers.map((_, tier) => waysOf(tier, costs, limit));
  const levels = hullOf(ways.flat().sort((a, b) => a.ms - b.ms));
  known.set(costs, { limit, ways, levels });
  return { ways, levels };
}

function waysOf(tier: number, costs: Costs, limit: number): Way[] {
  const first = costs.tiers[tier]!;
  const firstMs = costs.efficientMs(tier, limit);
  const scatter = scatterOf(tier, costs, limit);
  const ways = [{ tier, accuracy: first.accuracy, ms: firstMs, stretch: 1, scatter }];
  const second = secondOf(first, costs);
  if (second < 0) return ways;
  const secondMs = costs.efficientMs(second, limit);
  let { accuracy } = first;
  let ms = firstMs;
  for (const bin of first.again!.bins) {
    if (bin.second <= bin.first) break;
    accuracy += COMES_ABOUT * bin.share * (bin.second - bin.first);
    ms += bin.share * secondMs;
    ways.push({ tier, accuracy, ms, stretch: ms / firstMs, scatter });
  }
  return ways;
}

/** A batch of b that takes t, give or take s, is b (s / t)^2 of it. */
function scatterOf(tier: number, costs: Costs, limit: number): number {
  let batch = 1;
  while (batch < costs.maxBatch && costs.ms(tier, batch + 1) <= limit) batch++;
  return batch * ((costs.ms(tier, batch) / costs.busyMs(tier, batch) - 1) / P95) ** 2;
}

/** Corners of the concave hull of accuracy over time, from the cheapest way on. */
function hullOf(ways: readonly Way[]): Level[] {
  const levels: Level[] = [];
  for (const way of ways) {
    const slopeOver = (below: Way | undefined) =>
      (way.accuracy - (below?.accuracy ?? 0)) / (way.ms - (below?.ms ?? 0));
    while (levels.length > 1 && slopeOver(levels.at(-1)) >= levels.at(-1)!.slope) levels.pop();
    const slope = slopeOver(levels.at(-1));
    if (slope > 0 && slope < Infinity) levels.push({ ...way, slope });
  }
  return levels;
}
