import type { Policy } from '../../../src/scheduler/policy.ts';
import { admitAll, allowedFor, batchBySlack, cheapestFor, run, splitHopeless } from './common.ts';

/**
 * MaxBatch, an ablation of SuperServe (NSDI'25): first the largest batch that meets the head's
 * slack, then the most accurate sub-network that still meets it with that batch.
 */
export const maxBatch: Policy = {
  name: 'maxbatch',
  admit: admitAll,
  decide(view) {
    const { queue, expire } = splitHopeless(view, (request) => cheapestFor(view, [request]));
    if (queue.length === 0) return run(expire, [], undefined);
    const batch = batchBySlack(view, queue, cheapestFor(view, queue.slice(0, 1))!);
    const slack = queue[0]!.deadline - view.now;
    const allowed = allowedFor(view, batch);
    const tier =
      allowed.findLast((each) => view.latency.predict(each, batch.length) <= slack) ?? allowed[0];
    return run(expire, batch, tier);
  },
};
