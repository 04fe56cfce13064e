import type { ArrivalForecast } from '../policy.ts';

/** How many requests yet to come will be due by when, if arrivals go on as forecast. */
export class Demand {
  readonly #budgets: readonly number[];
  /** `sums[k]`: sum of the k shortest budgets. */
  readonly #sums: Float64Array;
  readonly #perBudget: number;

  constructor({ budgets, rate }: ArrivalForecast) {
    this.#budgets = budgets;
    this.#perBudget = budgets.length === 0 ? 0 : rate / budgets.length;
    this.#sums = new Float64Array(budgets.length + 1);
    for (let k = 0; k < budgets.length; k++) this.#sums[k + 1] = this.#sums[k]! + budgets[k]!;
  }

  /** Expected number of requests that arrive from now on and are due within `ms`. */
  dueWithin(ms: number): number {
    return this.#perBudget * this.#arrivedIn(ms, 0, this.#below(ms));
  }

  /**
   * Expected number of requests that arrive while no engine can start anything for `ms` and for
   * which `quickest` ms from then on is too late. Who has less than that from the beginning is
   * lost either way and does not count.
   */
  lostWhileBusy(ms: number, quickest: number): number {
    const late = ms + quickest;
    return this.#perBudget * this.#arrivedIn(late, this.#below(quickest), this.#below(late));
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
