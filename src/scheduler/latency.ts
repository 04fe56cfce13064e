import type { LatencyModel, Tier } from './policy.ts';

/** Measured time in ms per sub-network (by skip flags) and batch size. */
export type LatencyTable = Readonly<Record<string, Readonly<Record<number, number>>>>;

/** How fast the slowdown factor follows: weight of the newest batch. */
const SMOOTHING = 0.3;

/**
 * The table measured at start times a slowdown factor that follows what batches really take, so
 * that predictions hold when something else takes the processor.
 */
export class MeasuredLatency implements LatencyModel {
  #slowdown = 1;
  readonly #points: ReadonlyMap<string, readonly (readonly [batch: number, ms: number])[]>;

  /** @throws {RangeError} when a sub-network has no measurement. */
  constructor(readonly table: LatencyTable) {
    this.#points = new Map(
      Object.entries(table).map(([skip, row]) => {
        const points = Object.entries(row).map(([batch, ms]) => [Number(batch), ms] as const);
        if (points.length === 0) throw new RangeError(`no latency measured for ${skip}`);
        return [skip, points.sort((a, b) => a[0] - b[0])];
      }),
    );
  }

  /** 1: as fast as at start; 2: batches take twice as long. */
  get slowdown(): number {
    return this.#slowdown;
  }

  predict(tier: Tier, batch: number): number {
    return this.#measured(tier, batch) * this.#slowdown;
  }

  /** Learns from a batch that took `ms` from dispatch to result. */
  observe(tier: Tier, batch: number, ms: number): void {
    const factor = ms / this.#measured(tier, batch);
    // Never below 1: a lucky batch must not make promises that the next one breaks.
    this.#slowdown = Math.max(1, this.#slowdown + SMOOTHING * (factor - this.#slowdown));
  }

  /** The table, linear between measured batch sizes and proportional beyond the largest. */
  #measured(tier: Tier, batch: number): number {
    const points = this.#points.get(tier.skip);
    if (!points) throw new RangeError(`no latency measured for ${tier.skip}`);
    const above = points.findIndex(([size]) => size >= batch);
    if (above < 0) {
      const [size, ms] = points.at(-1)!;
      return (ms * batch) / size;
    }
    const [highBatch, highMs] = points[above]!;
    if (highBatch === batch || above === 0) return highMs;
    const [lowBatch, lowMs] = points[above - 1]!;
    return lowMs + ((highMs - lowMs) * (batch - lowBatch)) / (highBatch - lowBatch);
  }
}
