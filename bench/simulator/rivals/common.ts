import type { Decision, Refusal, Tier, View, Waiting } from '../../../src/scheduler/policy.ts';

/** The rivals have no admission control; only what no sub-network may answer is turned away. */
export function admitAll(view: View, request: Waiting): Refusal | null {
  return tiersFrom(view.tiers, request.minAccuracy).length > 0
    ? null
    : { reason: 'accuracy-unavailable', smallestBudgetMs: Infinity };
}

/**
 * Requests that could still be answered by `cheapest(request)` alone, and those that could not.
 * Kinder to the rivals than their papers are: none of them wastes time on a lost cause here.
 */
export function splitHopeless(
  view: View,
  cheapest: (request: Waiting) => Tier | undefined,
): { queue: Waiting[]; expire: Waiting[] } {
  const queue: Waiting[] = [];
  const expire: Waiting[] = [];
  for (const request of view.queue) {
    const tier = cheapest(request);
    const inTime = tier && view.now + view.latency.predict(tier, 1) <= request.deadline;
    (inTime ? queue : expire).push(request);
  }
  return { queue, expire };
}

/** The cheapest sub-network accurate enough for everyone in `batch`. */
export function cheapestFor(view: View, batch: readonly Waiting[]): Tier | undefined {
  return allowedFor(view, batch)[0];
}

export function allowedFor(view: View, batch: readonly Waiting[]): readonly Tier[] {
  return tiersFrom(view.tiers, Math.max(...batch.map((request) => request.minAccuracy)));
}

/** The largest batch of the most urgent requests that `tier` answers within the head's slack. */
export function batchBySlack(
  view: View,
  queue: readonly Waiting[],
  tier: Tier,
): readonly Waiting[] {
  const slack = queue[0]!.deadline - view.now;
  let size = Math.min(queue.length, view.maxBatch);
  while (size > 1 && view.latency.predict(tier, size) > slack) size--;
  return queue.slice(0, size);
}

export const run = (
  expire: readonly Waiting[],
  batch: readonly Waiting[],
  tier: Tier | undefined,
): Decision => ({ expire, run: tier && batch.length > 0 ? { batch, tier } : null, wakeAt: null });

/** The tiers at or above an accuracy floor; the ladder is sorted, so a suffix of it. */
export function tiersFrom(tiers: readonly Tier[], minAccuracy: number): readonly Tier[] {
  const first = tiers.findIndex((tier) => tier.accuracy >= minAccuracy);
  return first < 0 ? [] : tiers.slice(first);
}
