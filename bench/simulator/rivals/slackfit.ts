import type { LatencyModel, Policy, Tier } from '../../../src/scheduler/policy.ts';
import { admitAll, allowedFor, cheapestFor, run, splitHopeless } from './common.ts';

/** The largest batch that SuperServe's evaluation profiles. */
const LARGEST_BATCH = 16;
const BUCKETS = 16;

interface Choice {
  readonly tier: Tier;
  readonly batch: number;
  /** ms */
  readonly time: number;
}

/**
 * SlackFit of SuperServe (NSDI'25). Offline: evenly spaced latency buckets from L(smallest, 1) to
 * L(largest, 16), each keeping its tuple with the largest batch (the most accurate of these).
 * Online: the bucket just below the head's slack says sub-network and batch.
 */
export const slackfit: Policy = {
  name: 'slackfit',
  admit: admitAll,
  decide(view) {
    const { queue, expire } = splitHopeless(view, (request) => cheapestFor(view, [request]));
    const head = queue[0];
    if (!head) return run(expire, [], undefined);
    const slack = head.deadline - view.now;
    const allowed = allowedFor(view, [head]);
    const buckets = fill(allowed, view.latency, Math.min(LARGEST_BATCH, view.maxBatch));
    const choice = buckets.findLast(({ time }) => time <= slack) ?? buckets[0]!;
    const batch = queue.slice(0, choice.batch);
    const end = batch.findIndex((request) => request.minAccuracy > choice.tier.accuracy);
    return run(expire, end < 0 ? batch : batch.slice(0, end), choice.tier);
  },
};

/** One choice for each bucket that has any, fastest first. Exported for its test. */
export function fill(tiers: readonly Tier[], latency: LatencyModel, largest: number): Choice[] {
  const low = latency.predict(tiers[0]!, 1);
  const width = (latency.predict(tiers.at(-1)!, largest) - low) / BUCKETS;
  const buckets: Choice[] = [];
  for (const tier of tiers) {
    for (let batch = 1; batch <= largest; batch *= 2) {
      const time = latency.predict(tier, batch);
      const index = width > 0 ? Math.min(BUCKETS - 1, Math.floor((time - low) / width)) : 0;
      const kept = buckets[index];
      const better =
        !kept || batch > kept.batch || (batch === kept.batch && tier.accuracy > kept.tier.accuracy);
      if (better) buckets[index] = { tier, batch, time };
    }
  }
  return buckets.filter(Boolean);
}
