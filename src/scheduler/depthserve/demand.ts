import type { ArrivalForecast } from '../policy.ts';
import { gammaScore } from './distributions.ts';

/** Caution: the variance is taken this many times, since all that is known of it is an estimate. */
const CAUTION = 2;

/** What comes later than so many longest budgets ahead can still be mended. */
export const HORIZON = 2;

/** So many more may come than are expected, if any do: where few are, the count is less certain. */
const SURPRISE = 0.5;

/** How many requests yet to come will be due by when, if arrivals go on as forecast. */
export class Demand {
  readonly #surprise: number;

  constructor(private readonly arrivals: ArrivalForecast) {
    const ahead = this.dueWithin(HORIZON * (arrivals.budgets.at(-1) ?? 0));
    this.#surprise = Math.min(SURPRISE, ahead) + 1e-9;
  }

  /**
   * Expected number of requests that arrive from now on and are due within `ms`, of those with a
   * budget of at least `shortest`: who has budget b arrives within the first ms - b.
   */
  dueWithin(ms: number, shortest = 0): number {
    const { budgets } = this.arrivals;
    let time = 0;
    for (const budget of budgets) {
      if (budget >= ms) break;
      if (budget >= shortest) time += ms - budget;
    }
    return time === 0 ? 0 : (this.#rate(ms) * time) / budgets.length;
  }

  /**
   * Expected number of requests that arrive while no engine can start anything for `ms` and for
   * which `quickest` ms from then on is too late. Who has less than that from the beginning is
   * lost either way and does not count.
   */
  lostWhileBusy(ms: number, quickest: number): number {
    return this.dueWithin(ms + quickest, quickest);
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

  /** Mean rate over the next `ms`. */
  #rate(ms: number): number {
    const { rate, reach } = this.arrivals;
    if (!reach || ms <= reach[0]!.ms) return rate;
    return Math.max(...reach.map((span) => span.rate * Math.min(ms, span.ms))) / ms;
  }
}
