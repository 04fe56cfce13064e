/**
 * What a scheduling policy sees and what it decides.
 *
 * A policy decides by pure functions of (queue, latency model, now): whom to admit, what to run, who
 * has no hope, what to look at again. It computes nothing on images and starts nothing. Times are
 * milliseconds on one monotonic clock (`performance.now()` in the server, a virtual clock in tests
 * and simulations).
 */

/** A sub-network that the scheduler may choose: one step of the accuracy-latency ladder. */
export interface Tier {
  /** Skip flags, first stage first, e.g. `TTFF`; `T` = second sub-path skipped. */
  readonly skip: string;
  /** Expected top-1 accuracy, 0 to 1. */
  readonly accuracy: number;
  /** Multiply-accumulates per image. */
  readonly macs: number;
  /** What a second look gains after this one; absent: nothing is known. */
  readonly again?: SecondLook;
}

/**
 * How often a first look and a deeper second one are right, by how sure the first is: measured by
 * `adaptive-depth export` on held-out images. The answer of the second look counts.
 */
export interface SecondLook {
  /** Sub-network of the second look. */
  readonly skip: string;
  /** Least sure first; gains fall, and the last bin ends at 1. */
  readonly bins: readonly ConfidenceBin[];
}

export interface ConfidenceBin {
  /** Largest confidence in it, 0 to 1. */
  readonly below: number;
  /** Share of all images. */
  readonly share: number;
  /** Shares of them that the first and the second look get right. */
  readonly first: number;
  readonly second: number;
}

/** One image in the queue. */
export interface Waiting {
  readonly id: number;
  /** When the request's head arrived: the budget's clock started then. */
  readonly arrivedAt: number;
  /** Arrival plus budget: the answer must be out by then. */
  readonly deadline: number;
  /** Answers below this accuracy (0 to 1) are not wanted. */
  readonly minAccuracy: number;
  /** The one sub-network that may answer, on the front or not; absent: the policy chooses. */
  readonly skip?: string | undefined;
  /** Look again while less sure than this, 0 to 1, as far as time allows; absent: 0. */
  readonly minConfidence?: number | undefined;
}

/** One image that asks to be let in. */
export interface Arriving extends Waiting {
  /** When its input is ready, mostly and at most (95th percentile); absent: now. */
  readonly readyAt?: number;
  readonly readyAtMost?: number;
}

/** One image that has an answer, and may be looked at again. */
export interface Unsure extends Waiting {
  readonly look: Look;
}

/** One sub-network's answer to an image. */
export interface Look {
  readonly tier: Tier;
  /** Calibrated probability that it is right, 0 to 1. */
  readonly confidence: number;
}

export interface LatencyModel {
  /** Time in ms from dispatch to result of `batch` images on `tier` that is hardly ever exceeded. */
  predict(tier: Tier, batch: number): number;
  /** The same, typically: what the engine is occupied for, and what a deadline must leave. */
  typical(tier: Tier, batch: number): number;
  /** Another number whenever predictions may have changed; absent: they may at any time. */
  readonly revision?: number;
}

/** What the arrivals so far let expect of the next ones. */
export interface ArrivalForecast {
  /** Requests per ms. */
  readonly rate: number;
  /** Estimated mean rates by horizon (the next `ms`); absent: `rate` for every horizon. */
  readonly reach?: readonly { readonly ms: number; readonly rate: number }[];
  /** Variance over mean of the number of arrivals within a typical budget; 1: Poisson. */
  readonly dispersion: number;
  /** Recent budgets in ms, ascending. */
  readonly budgets: readonly number[];
}

/**
 * Everything that a decision may depend on. Lists are never changed, only replaced: what follows
 * from one may be kept for as long as it is the same.
 */
export interface View {
  readonly now: number;
  /** All that wait for an answer, earliest deadline first. */
  readonly admitted: readonly Waiting[];
  /** Those of them that are ready to be started, in the same order. */
  readonly queue: readonly Waiting[];
  /** Answered by a first look, not gone yet. */
  readonly unsure: readonly Unsure[];
  /** The measured Pareto front, cheapest and least accurate first. */
  readonly tiers: readonly Tier[];
  readonly latency: LatencyModel;
  readonly arrivals: ArrivalForecast;
  /** When each engine will be free; `<= now`: free already. */
  readonly enginesFreeAt: readonly number[];
  readonly maxBatch: number;
}

/** Why a request cannot be served, and what would have worked. */
export interface Refusal {
  readonly reason: 'overload' | 'budget-too-small' | 'accuracy-unavailable';
  /** The smallest budget in ms, counted from the request's arrival, that would do now, as far as is known. */
  readonly smallestBudgetMs: number;
  /**
   * What was left of a budget, of which all would have been enough: the request took its time to
   * come in.
   */
  readonly leftMs?: number;
}

/** A request that was let in and is refused after all, for the sake of others. */
export interface GivenUp {
  readonly request: Waiting;
  readonly refusal: Refusal;
}

export interface Decision {
  /** Requests in the queue that can no longer be answered in time: 504 at once. */
  readonly expire: readonly Waiting[];
  /** Requests, ready or reserved, that have lost their places to others: 503 at once. */
  readonly giveUp?: readonly GivenUp[];
  /** What to start on a free engine now; null: nothing yet. */
  readonly run: { readonly batch: readonly Waiting[]; readonly tier: Tier } | null;
  /** When to decide again if nothing happens before; null: at the next arrival or result. */
  readonly wakeAt: number | null;
}

export interface Policy {
  readonly name: string;
  /**
   * Whether to let `request` join `view.admitted` (which does not hold it yet), though it may cost
   * another its place.
   */
  admit(view: View, request: Arriving): Refusal | null;
  /** What to do now that at least one engine is free and the queue is not empty. */
  decide(view: View): Decision;
  /**
   * Asked while every engine is busy: which requests could not be answered in time even if an
   * engine came free now, which not together with the others, and when to ask again if nothing
   * happens before.
   */
  hopeless?(view: View): Pick<Decision, 'expire' | 'giveUp' | 'wakeAt'>;
  /** Absent: the first answer always leaves at once. */
  readonly secondLooks?: SecondLooks;
}

/** What becomes of images that have an answer. Nothing promised ever waits for them. */
export interface SecondLooks {
  /** Whose answers leave now, and when to ask again if nothing happens before. */
  leaving(view: View): { readonly leave: readonly Unsure[]; readonly wakeAt: number | null };
  /** What to look at again on a free engine, while no promised answer waits for one. */
  choose(view: View): { readonly batch: readonly Unsure[]; readonly tier: Tier } | null;
}
