import type { LatencyModel, Tier, View, Waiting } from '../policy.ts';

/** Batch sizes that plans are made of; the largest allowed comes on top. */
const PLANNED = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96];

/** The last for each model: decisions are many between two batches, and read hundreds of times. */
const known = new WeakMap<LatencyModel, { readonly revision: number; readonly costs: Costs }>();

/** The predictions that a decision needs. */
export function costsOf({ tiers, latency, maxBatch }: View): Costs {
  const { revision } = latency;
  const last = known.get(latency);
  if (last && last.revision === revision && last.costs.isOf(tiers, maxBatch)) return last.costs;
  const costs = new Costs(tiers, latency, maxBatch);
  if (revision !== undefined) known.set(latency, { revision, costs });
  return costs;
}

export class Costs {
  /** Batch sizes that plans are made of, ascending. */
  readonly sizes: readonly number[];
  /**
   * What `ms` and `busyMs` give, in ms, at tier x `width` + batch: for plans, which look up
   * thousands for each decision.
   */
  readonly allMs: Float64Array;
  readonly allBusyMs: Float64Array;
  readonly width: number;

  constructor(
    readonly tiers: readonly Tier[],
    latency: LatencyModel,
    readonly maxBatch: number,
  ) {
    this.sizes = [...PLANNED.filter((size) => size < maxBatch), maxBatch];
    this.width = maxBatch + 1;
    this.allMs = new Float64Array(tiers.length * this.width);
    this.allBusyMs = new Float64Array(tiers.length * this.width);
    const { besidesMs = 0 } = latency;
    for (let tier = 0; tier < tiers.length; tier++) {
      for (let batch = 1; batch <= maxBatch; batch++) {
        this.allMs[tier * this.width + batch] = latency.predict(tiers[tier]!, batch);
        this.allBusyMs[tier * this.width + batch] =
          latency.typical(tiers[tier]!, batch) + batch * besidesMs;
      }
    }
  }

  isOf(tiers: readonly Tier[], maxBatch: number): boolean {
    return this.tiers === tiers && this.maxBatch === maxBatch;
  }

  /** Ms that a deadline must leave for `batch` images on the tier with this index. */
  ms(tier: number, batch: number): number {
    return this.allMs[tier * this.width + batch]!;
  }

  /**
   * Ms that an engine is typically occupied by it. Were engines thought to be occupied for as long
   * as deadlines must leave, a load would seem a multiple of what it is where times scatter.
   */
  busyMs(tier: number, batch: number): number {
    return this.allBusyMs[tier * this.width + batch]!;
  }

  /** Index of the cheapest tier accurate enough; `tiers.length` when there is none. */
  floor(request: Waiting): number {
    let tier = 0;
    while (tier < this.tiers.length && this.tiers[tier]!.accuracy < request.minAccuracy) tier++;
    return tier;
  }

  /** Least engine time per image of a batch on `tier` that takes at most `limit` ms. */
  efficientMs(tier: number, limit: number): number {
    let least = this.busyMs(tier, 1);
    for (let batch = 2; batch <= this.maxBatch && this.ms(tier, batch) <= limit; batch++) {
      least = Math.min(least, this.busyMs(tier, batch) / batch);
    }
    return least;
  }

  floors(queue: readonly Waiting[]): Int32Array {
    const floors = new Int32Array(queue.length);
    for (let i = 0; i < queue.length; i++) {
      if (queue[i]!.minAccuracy > this.tiers[0]!.accuracy) floors[i] = this.floor(queue[i]!);
    }
    return floors;
  }
}
