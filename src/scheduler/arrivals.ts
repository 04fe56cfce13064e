import type { ArrivalForecast } from './policy.ts';
import { Recent } from './recent.ts';

/** Memory of the rate, ms: long enough to average bursts out, short enough to follow a step. */
const RATE_MEMORY_MS = 2000;
/**
 * Longer memories. A rate is relied upon as far ahead as it looks back: a burst of a tenth of a
 * second tells what the next second may bring, and next to nothing of the next minute.
 */
const LONG_MEMORIES_MS = [8000, 32_000, 128_000];
/** Memory of how much counts vary, in windows. */
const DISPERSION_MEMORY = 300;
/** Budgets may be anything, zero and below included. */
const SHORTEST_WINDOW_MS = 1;
/** Budgets remembered. */
const BUDGETS = 64;

/**
 * Learns from the arrivals seen what to expect of the next ones: rate, burstiness, budgets.
 * A new server expects nothing, and is told by its first requests.
 */
export class ArrivalEstimator {
  #last: number | null = null;
  #count = 0;
  /** Time that `#count` stands for, ms. */
  #span = 0;

  /** For each long memory, the arrivals within it; as if nothing had come before the first. */
  readonly #longCounts = LONG_MEMORIES_MS.map(() => 0);

  #windowStart = 0;
  #windowCount = 0;
  #meanCount = 0;
  #varCount = 0;
  #windows = 0;

  readonly #budgets = new Recent(BUDGETS);

  /** Tells of a request that came at `now` with `budget` ms. */
  observe(now: number, budget: number): void {
    this.#budgets.add(budget);
    if (this.#last === null) this.#windowStart = now;
    else this.#age(now);
    this.#count++;
    for (let i = 0; i < this.#longCounts.length; i++) this.#longCounts[i]!++;
    this.#last = Math.max(now, this.#last ?? now);
    this.#closeWindows(now);
    this.#windowCount++;
  }

  /** What to expect from `now` on. */
  forecast(now: number): ArrivalForecast {
    const gap = this.#last === null ? 0 : Math.max(0, now - this.#last);
    const kept = Math.exp(-gap / RATE_MEMORY_MS);
    const span = this.#span * kept + RATE_MEMORY_MS * (1 - kept);
    // The first request starts the clock and says nothing of the rate.
    const count = Math.max(0, this.#count - 1) * kept;
    const rate = span > 0 ? count / span : 0;
    const long = LONG_MEMORIES_MS.map((ms, i) => ({
      ms,
      rate: (this.#longCounts[i]! * Math.exp(-gap / ms)) / ms,
    }));
    return {
      rate,
      reach: [{ ms: RATE_MEMORY_MS, rate }, ...long],
      dispersion:
        this.#windows < 8 || this.#meanCount === 0
          ? 2
          : Math.max(1, this.#varCount / this.#meanCount),
      budgets: this.#budgets.sorted,
    };
  }

  #age(now: number): void {
    const gap = Math.max(0, now - this.#last!);
    const kept = Math.exp(-gap / RATE_MEMORY_MS);
    this.#count *= kept;
    this.#span = this.#span * kept + RATE_MEMORY_MS * (1 - kept);
    for (let i = 0; i < this.#longCounts.length; i++) {
      this.#longCounts[i]! *= Math.exp(-gap / LONG_MEMORIES_MS[i]!);
    }
  }

  /** Counts per window of a typical budget: the span over which a queue can absorb bursts. */
  #closeWindows(now: number): void {
    const width = Math.max(SHORTEST_WINDOW_MS, this.#budgets.quantile(0.5));
    // After a pause nothing is learnt from its empty windows beyond the memory.
    const oldest = now - DISPERSION_MEMORY * width;
    this.#windowStart = Math.max(this.#windowStart, oldest);
    while (now >= this.#windowStart + width) {
      this.#windows++;
      const weight = Math.max(1 / DISPERSION_MEMORY, 1 / this.#windows);
      const difference = this.#windowCount - this.#meanCount;
      this.#meanCount += weight * difference;
      this.#varCount = (1 - weight) * (this.#varCount + weight * difference * difference);
      this.#windowCount = 0;
      this.#windowStart += width;
    }
  }
}
