import type { View, Waiting } from '../policy.ts';

/** Ms that so many images on the tier with this index hardly ever exceed. */
export function atMostMs({ tiers, latency }: View, tier: number, images: number): number {
  return tiers[tier] ? latency.predict(tiers[tier], images) : NaN;
}

/**
 * Ms that an engine is typically occupied by them, and that a deadline must leave. Were these the
 * times that are hardly ever exceeded, a load would seem a multiple of what it is where they scatter.
 */
export function busyMs({ tiers, latency }: View, tier: number, images: number): number {
  return tiers[tier] ? latency.typical(tiers[tier], images) : NaN;
}

/** Index of the cheapest tier accurate enough; `tiers.length` when there is none. */
export function floorOf({ tiers }: View, { minAccuracy }: Waiting): number {
  let tier = 0;
  while (tier < tiers.length && tiers[tier]!.accuracy < minAccuracy) tier++;
  return tier;
}

export interface Efficient {
  readonly batch: number;
  /** Engine time for each of its images. */
  readonly imageMs: number;
}

/** Of the batches that take at most `limit` ms, the one with the least time per image. */
export function efficient(view: View, tier: number, limit = Infinity): Efficient {
  let best: Efficient = { batch: 1, imageMs: busyMs(view, tier, 1) };
  for (let batch = 2; batch <= view.maxBatch && atMostMs(view, tier, batch) <= limit; batch++) {
    const imageMs = busyMs(view, tier, batch) / batch;
    // At equal times the larger one.
    if (imageMs <= best.imageMs) best = { batch, imageMs };
  }
  return best;
}
