import type { ArrivalForecast } from '../policy.ts';

/** How many requests yet to come will be due by when, if arrivals go on as forecast. */
export class Demand {
  readonly #budgets: readonly number[];
  /** `sums[k]`: sum of the k shortest budgets. */
  readonly #sums: Float64Array;
  readonly #surprise: number;

  constructor(private readonly arrivals: ArrivalForecast) {
    const { budgets } = arrivals;
    this.#budgets = budgets;
    this.#sums = new Float64Array(budgets.length + 1);
    for (let k = 0; k < budgets.length; k++) this.#sums[k + 1] = this.#sums[k]! + budgets[k]!;
    this.#surprise = Math.min(0.5, this.dueWithin(2 * (budgets.at(-1) ?? 0))) + 1e-9;
  }

  /** Expected number of requests that arrive from now on and are due within `ms`. */
  dueWithin(ms: number): number {
    return this.#rate(ms) * this.#arrivedIn(ms, 0, this.#below(ms));
  }

  /**
   * Expected number of requests that arrive while no engine can start anything for `ms` and for
   * which `quickest` ms from then on is too late. Who has less than that from the beginning is
   * lost either way and does not count.
   */
  lostWhileBusy(ms: number, quickest: number): number {
    const late = ms + quickest;
    return this.#rate(late) * this.#arrivedIn(late, this.#below(quickest), this.#below(late));
  }

  /**
   * Room for `more` requests beyond the `count` expected, in standard deviations of how many come.
   *
   * @param caution takes the variance so many times.
   * @param scatter of how many can be answered, variance over mean.
   */
  deviations(more: number, count: number, caution: number, scatter = 0): number {
    // Even where few are expected, half a request more may come, if any do.
    const mean = count + this.#surprise;
    return gammaScore(1 + more / mean, mean / ((this.arrivals.dispersion + scatter) * caution));
  }

  /** Mean rate over the next `ms`, of each of the budgets. */
  #rate(ms: number): number {
    const { rate, reach, budgets } = this.arrivals;
    if (budgets.length === 0) return 0;
    if (!reach || ms <= reach[0]!.ms) return rate / budgets.length;
    let count = 0;
    for (const span of reach) count = Math.max(count, span.rate * Math.min(ms, span.ms));
    return count / ms / budgets.length;
  }

  /** Of budgets `from` up to `to`, by rank: those with budget b arrive within the first ms - b. */
  #arrivedIn(ms: number, from: number, to: number): number {
    return (to - from) * ms - (this.#sums[to]! - this.#sums[from]!);
  }

  /** How many budgets are shorter than `ms`. */
  #below(ms: number): number {
    let low = 0;
    let high = this.#budgets.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#budgets[middle]! < ms) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/**
 * The standard normal deviate that is exceeded as rarely as `ratio` times the mean by a gamma
 * distribution of this shape (Wilson and Hilferty). Counts of bursty arrivals are far more skewed
 * than normal ones.
 */
function gammaScore(ratio: number, shape: number): number {
  if (ratio <= 0) return -Infinity;
  const ninth = 1 / (9 * shape);
  return (Math.cbrt(ratio) - 1 + ninth) / Math.sqrt(ninth);
}
