import type { LatencyModel, Tier, View, Waiting } from '../../src/scheduler/policy.ts';

/** Three sub-networks: the deepest takes twice as long as the shallowest. */
export const TIERS: readonly Tier[] = [
  { skip: 'TT', accuracy: 0.8, macs: 10 },
  { skip: 'TF', accuracy: 0.86, macs: 15 },
  { skip: 'FF', accuracy: 0.9, macs: 20 },
];

/**
 * Typically `fixed + batch` ms on the cheapest tier, 1.5 and 2 times that on the others; hardly ever
 * more than `spread` times as long.
 */
export const linear = (fixed: number, spread = 1): LatencyModel => {
  const typical: LatencyModel['typical'] = ({ macs }, batch) => (macs / 10) * (fixed + batch);
  return { typical, predict: (tier, batch) => spread * typical(tier, batch) };
};

/** Times that do not scatter. */
export const exact = (predict: LatencyModel['predict']): LatencyModel => ({
  predict,
  typical: predict,
});

export function waiting(id: number, deadline: number, rest: Partial<Waiting> = {}): Waiting {
  return { id, arrivedAt: 0, deadline, minAccuracy: 0, ...rest };
}

/** An idle engine at time 0 that expects no arrivals, unless told otherwise. */
export function view(queue: readonly Waiting[], rest: Partial<View> = {}): View {
  return {
    now: 0,
    admitted: queue,
    queue,
    unsure: [],
    tiers: TIERS,
    latency: linear(1),
    arrivals: { rate: 0, dispersion: 1, budgets: [20, 40] },
    enginesFreeAt: [-Infinity],
    maxBatch: 8,
    ...rest,
  };
}

/** The same with others in the queue, all of them ready. */
export function withQueue(seen: View, queue: readonly Waiting[]): View {
  return { ...seen, queue, admitted: queue };
}
