import type { Policy } from '../../../src/scheduler/policy.ts';
import { batchBySlack, run, splitHopeless } from './common.ts';

/**
 * One sub-network for everything, batch by the head's slack: what Clipper (NSDI'17), Clockwork
 * (OSDI'20) or TensorFlow Serving do when they serve a single model.
 */
export function fixed(skip: string): Policy {
  return {
    name: `fixed:${skip}`,
    admit(view, request) {
      const tier = view.tiers.find((candidate) => candidate.skip === skip);
      return tier && tier.accuracy >= request.minAccuracy
        ? null
        : { reason: 'accuracy-unavailable', smallestBudgetMs: Infinity };
    },
    decide(view) {
      const tier = view.tiers.find((candidate) => candidate.skip === skip);
      const { queue, expire } = splitHopeless(view, () => tier);
      if (!tier || queue.length === 0) return run(expire, [], tier);
      return run(expire, batchBySlack(view, queue, tier), tier);
    },
  };
}
