import type { Policy } from '../../../src/scheduler/policy.ts';
import { admitAll, batchBySlack, cheapestFor, run, splitHopeless } from './common.ts';

/**
 * After INFaaS (ATC'21): the cheapest variant that meets the stated accuracy, never a better one;
 * batch by the head's slack. Without a stated accuracy that is the cheapest sub-network.
 */
export const infaas: Policy = {
  name: 'infaas',
  admit: admitAll,
  decide(view) {
    const { queue, expire } = splitHopeless(view, (request) => cheapestFor(view, [request]));
    if (queue.length === 0) return run(expire, [], undefined);
    const tier = cheapestFor(view, queue.slice(0, 1))!;
    const batch = batchBySlack(view, queue, tier);
    const end = batch.findIndex((request) => request.minAccuracy > tier.accuracy);
    return run(expire, end < 0 ? batch : batch.slice(0, end), tier);
  },
};
