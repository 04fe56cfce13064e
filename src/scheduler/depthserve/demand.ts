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
    let low = 0;
    let high = this.#budgets.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#budgets[middle]! < ms) low = middle + 1;
      else high = middle;
    }
    // Of those with budget b, the ones that arrive within the first ms - b.
    return this.#perBudget * (low * ms - this.#sums[low]!);
  }

  /**
   * Expected number of requests that arrive while no engine can start anything for `ms` and for
   * which `quickest` ms from then on is too late.
   */
  lostWhileBusy(ms: number, quickest: number): number {
    return this.dueWithin(ms + quickest) - this.dueWithin(quickest);
  }
}
