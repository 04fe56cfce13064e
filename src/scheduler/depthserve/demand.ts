import type { ArrivalForecast } from '../policy.ts';
import { gammaScore } from './distributions.ts';

/** Caution: the variance is taken this many times, since all that is known of it is an estimate. */
const CAUTION = 2;

/** Even where few are expected, this many may come, if any do. */
const SURPRISE = 0.5;

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
    this.#surprise = Math.min(SURPRISE, this.dueWithin(2 * (budgets.at(-1) ?? 0))) + 1e-9;
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
   * Room for `more` requests beyond the `count` expected, in standard deviations.
   *
   * @param scatter variance over mean of how many can be answered: it adds to that of the arrivals,
   *   as in Kingman's formula.
   */
  deviations(more: number, count: number, scatter: number): number {
    const mean = count + this.#surprise;
    return gammaScore(1 + more / mean, mean / (CAUTION * (this.arrivals.dispersion + scatter)));
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
