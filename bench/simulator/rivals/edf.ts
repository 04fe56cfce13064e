import type {
  Decision,
  Policy,
  Refusal,
  Tier,
  View,
  Waiting,
} from '../../../src/scheduler/policy.ts';
import { tiersFrom } from './common.ts';

/**
 * Earliest deadline first: the largest batch of the most urgent requests that some sub-network
 * can still answer in time, on the most accurate such sub-network. A request is refused on
 * arrival when not even the cheapest sub-network, in full batches, can reach it in time.
 */
export const edf: Policy = { name: 'edf', admit, decide };

function admit(view: View, request: Waiting): Refusal | null {
  const allowed = tiersFrom(view.tiers, request.minAccuracy);
  const cheapest = allowed[0];
  if (!cheapest) return { reason: 'accuracy-unavailable', smallestBudgetMs: Infinity };

  const ahead = view.queue.filter((other) => other.deadline <= request.deadline);
  const finish = startAfter(view, ahead) + view.latency.predict(cheapest, 1);
  if (finish <= request.deadline) return null;

  // Idle, this budget would still be too small: waiting for better times cannot help.
  const alone = view.now + view.latency.predict(cheapest, 1);
  return {
    reason: alone > request.deadline ? 'budget-too-small' : 'overload',
    // A longer budget queues behind everything, not only behind what is ahead now.
    smallestBudgetMs:
      startAfter(view, view.queue) + view.latency.predict(cheapest, 1) - request.arrivedAt,
  };
}

/** When an engine is free after answering `ahead` on the cheapest sub-network in full batches. */
function startAfter(view: View, ahead: readonly Waiting[]): number {
  const free = view.enginesFreeAt.map((at) => Math.max(at, view.now)).sort((a, b) => a - b);
  for (let served = 0; served < ahead.length; served += view.maxBatch) {
    const batch = ahead.slice(served, served + view.maxBatch);
    const tier = cheapestFor(view, batch);
    if (!tier) continue;
    free[0] = free[0]! + view.latency.predict(tier, batch.length);
    free.sort((a, b) => a - b);
  }
  return free[0]!;
}

/** The cheapest sub-network accurate enough for everyone in `batch`. */
function cheapestFor(view: View, batch: readonly Waiting[]): Tier | undefined {
  const floor = Math.max(...batch.map((request) => request.minAccuracy));
  return tiersFrom(view.tiers, floor)[0];
}

function decide(view: View): Decision {
  const { now, latency } = view;
  const inTime = (batch: readonly Waiting[], tier: Tier) =>
    now + latency.predict(tier, batch.length) <= batch[0]!.deadline;

  const expire: Waiting[] = [];
  const queue: Waiting[] = [];
  for (const request of view.queue) {
    const tier = cheapestFor(view, [request]);
    (tier && inTime([request], tier) ? queue : expire).push(request);
  }

  // Sorted by deadline, so the head's is the tightest of every batch that starts with it.
  for (let size = Math.min(queue.length, view.maxBatch); size > 0; size--) {
    const batch = queue.slice(0, size);
    const floor = Math.max(...batch.map((request) => request.minAccuracy));
    const tier = tiersFrom(view.tiers, floor).findLast((candidate) => inTime(batch, candidate));
    if (tier) return { expire, run: { batch, tier }, wakeAt: null };
  }
  return { expire, run: null, wakeAt: null };
}
