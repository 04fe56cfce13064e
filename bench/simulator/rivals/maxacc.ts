import type { Policy } from '../../../src/scheduler/policy.ts';
import { admitAll, allowedFor, batchBySlack, cheapestFor, run, splitHopeless } from './common.ts';

/**
 * MaxAcc, an ablation of SuperServe (NSDI'25): first the most accurate sub-network that meets the
 * head's slack, then the largest batch that it can still answer in time.
 */
export const maxAcc: Policy = {
  name: 'maxacc',
  admit: admitAll,
  decide(view) {
    const { queue, expire } = splitHopeless(view, (request) => cheapestFor(view, [request]));
    if (queue.length === 0) return run(expire, [], undefined);
    const slack = queue[0]!.deadline - view.now;
    const allowed = allowedFor(view, queue.slice(0, 1));
    // Rounding may say of the cheapest that it has no time: it is known to have some.
    const tier = allowed.findLast((each) => view.latency.predict(each, 1) <= slack) ?? allowed[0]!;
    // Requests behind the head may want more than the sub-network that suits the head.
    const batch = batchBySlack(view, queue, tier);
    const end = batch.findIndex((request) => request.minAccuracy > tier.accuracy);
    return run(expire, end < 0 ? batch : batch.slice(0, end), tier);
  },
};
