import type { ArrivalForecast } from './policy.ts';
import { SlidingWindow } from './sliding-window.ts';

/** Memory of the rate, ms: long enough to average bursts out, short enough to follow a step. */
const RATE_MEMORY_MS = 2000;
/**
 * Longer memories. A rate is relied upon as far ahead as it looks back: a burst of a tenth of a
 * second tells what the next second may bring, and next to nothing of the next minute.
 */
const LONG_MEMORIES_MS = [8000, 32_000, 128_000];
/** Memory of how much counts vary, in windows. */
const DISPERSION_MEMORY = 300;
/** Counts are compared in windows of 1, 2, 4, ... ms, up to about a minute. */
const WINDOWS = 17;
/** Fewer windows than these tell nothing; meanwhile this is assumed. */
const FEWEST_WINDOWS = 8;
const UNKNOWN_DISPERSION = 2;
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

  readonly #counts = Array.from({ length: WINDOWS }, (_, power) => new WindowCounts(2 ** power));

  readonly #budgets = new SlidingWindow(BUDGETS);

  /** Tells of a request that came at `now` with `budget` ms. */
  observe(now: number, budget: number): void {
    this.#budgets.add(budget);
    if (this.#last !== null) this.#age(now);
    this.#count++;
    for (let i = 0; i < this.#longCounts.length; i++) this.#longCounts[i]!++;
    this.#last = Math.max(now, this.#last ?? now);
    for (const counts of this.#counts) counts.observe(now);
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
      dispersion: this.#dispersion,
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

  /** Over a typical budget: that is how long a queue can absorb bursts. */
  get #dispersion(): number {
    const typical = Math.max(1, this.#budgets.quantile(0.5));
    const power = Math.min(WINDOWS - 1, Math.round(Math.log2(typical)));
    return this.#counts[power]!.dispersion;
  }
}

/** Variance over mean of the number of arrivals in windows of one width. */
class WindowCounts {
  #start: number | null = null;
  #count = 0;
  #mean = 0;
  #variance = 0;
  #windows = 0;

  constructor(private readonly width: number) {}

  /** At least 1, for what is more regular than Poisson may change. */
  get dispersion(): number {
    if (this.#windows < FEWEST_WINDOWS || this.#mean === 0) return UNKNOWN_DISPERSION;
    return Math.max(1, this.#variance / this.#mean);
  }

  observe(now: number): void {
    // After a pause nothing is learnt from its empty windows beyond the memory.
    const oldest = now - DISPERSION_MEMORY * this.width;
    this.#start = Math.max(this.#start ?? now, oldest);
    for (; now >= this.#start + this.width; this.#start += this.width) this.#close();
    this.#count++;
  }

  #close(): void {
    this.#windows++;
    const weight = Math.max(1 / DISPERSION_MEMORY, 1 / this.#windows);
    const difference = this.#count - this.#mean;
    this.#mean += weight * difference;
    this.#variance = (1 - weight) * (this.#variance + weight * difference * difference);
    this.#count = 0;
  }
}
