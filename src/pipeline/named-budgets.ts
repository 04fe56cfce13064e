import type { LatencyModel, Refusal, Tier } from '../scheduler/policy.ts';
import { SlidingWindow } from '../scheduler/sliding-window.ts';

/** Requests that are remembered. */
const REMEMBERED = 16;
/** Share of callers to whom a budget that was named to them must be enough. */
const ENOUGH_FOR = 0.9;

/** What a refusal would have named, in ms. */
export interface Named {
  readonly enoughMs: number;
  /** Of that, the time of the cheapest sub-network allowed. */
  readonly cheapestMs: number;
}

/**
 * By how much the smallest budget that a refusal names must be larger than what the plan says. The
 * plan knows times of a busy server; a request that comes alone finds cold caches. So what such
 * requests took is compared with what they would have been named.
 */
export class NamedBudgets {
  readonly #lacking = new SlidingWindow(REMEMBERED);

  /** Of a request that came alone: `tier` answered, `tookMs` after it arrived. */
  observe(
    { enoughMs, cheapestMs }: Named,
    tier: Tier,
    tookMs: number,
    latency: LatencyModel,
  ): void {
    // No sub-network is accurate enough: nothing would have been named.
    if (enoughMs === Infinity) return;
    this.#lacking.add(tookMs - enoughMs - (latency.predict(tier, 1) - cheapestMs));
  }

  /** The refusal, with a budget that is enough. */
  enough(refusal: Refusal): Refusal {
    const lackingMs = Math.max(0, this.#lacking.quantile(ENOUGH_FOR));
    return { ...refusal, smallestBudgetMs: refusal.smallestBudgetMs + lackingMs };
  }
}
