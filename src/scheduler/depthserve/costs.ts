import type { LatencyModel, Tier, View, Waiting } from '../policy.ts';

/** The last for each model: decisions are many between two batches. */
const known = new WeakMap<LatencyModel, Costs>();

/** The predictions that a decision needs. */
export function costsOf({ tiers, latency, maxBatch }: View): Costs {
  const last = known.get(latency);
  const same = last?.tiers === tiers && last.maxBatch === maxBatch;
  if (same && last.revision === latency.revision) return last;
  const costs = new Costs(tiers, latency, maxBatch);
  if (latency.revision !== undefined) known.set(latency, costs);
  return costs;
}

export interface Efficient {
  readonly batch: number;
  /** Engine time for each of its images. */
  readonly imageMs: number;
}

/** Each prediction is asked for when it is first needed: every batch changes them, few are used. */
export class Costs {
  readonly revision: number | undefined;
  /** At tier x (largest batch + 1) + batch. */
  readonly #ms: number[];
  readonly #busyMs: number[];

  constructor(
    readonly tiers: readonly Tier[],
    private readonly latency: LatencyModel,
    readonly maxBatch: number,
  ) {
    this.revision = latency.revision;
    this.#ms = Array<number>(tiers.length * (maxBatch + 1)).fill(NaN);
    this.#busyMs = [...this.#ms];
  }

  /** Ms that a deadline must leave for `batch` images on the tier with this index. */
  ms(tier: number, batch: number): number {
    const at = tier * (this.maxBatch + 1) + batch;
    if (!(this.#ms[at]! > 0)) this.#ask(tier, batch, at);
    return this.#ms[at] ?? NaN;
  }

  /**
   * Ms that an engine is typically occupied by it. Were engines thought to be occupied for as long
   * as deadlines must leave, a load would seem a multiple of what it is where times scatter.
   */
  busyMs(tier: number, batch: number): number {
    const at = tier * (this.maxBatch + 1) + batch;
    if (!(this.#busyMs[at]! > 0)) this.#ask(tier, batch, at);
    return this.#busyMs[at] ?? NaN;
  }

  #ask(index: number, batch: number, at: number): void {
    const tier = this.tiers[index];
    if (!tier) return;
    this.#ms[at] = this.latency.predict(tier, batch);
    this.#busyMs[at] = this.latency.typical(tier, batch);
  }

  /** Index of the cheapest tier accurate enough; `tiers.length` when there is none. */
  floor({ minAccuracy }: Waiting): number {
    let tier = 0;
    while (tier < this.tiers.length && this.tiers[tier]!.accuracy < minAccuracy) tier++;
    return tier;
  }

  /** Of the batches that take at most `limit` ms, the one with the least time per image. */
  efficient(tier: number, limit = Infinity): Efficient {
    let best: Efficient = { batch: 1, imageMs: this.busyMs(tier, 1) };
    let size = 1;
    // Powers of two, at which times are measured, and on to the largest that is in time.
    for (let step = 1, grows = 2; step >= 1; step *= grows) {
      const batch = Math.min(size + step, this.maxBatch);
      if (batch > size && this.ms(tier, batch) <= limit) {
        size = batch;
        const imageMs = this.busyMs(tier, batch) / batch;
        if (imageMs <= best.imageMs) best = { batch, imageMs };
      } else grows = 0.5;
    }
    return best;
  }
}
