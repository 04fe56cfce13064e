import type { VirtualClock } from '../../bench/simulator/clock.ts';
import { MeasuredLatency } from '../../src/scheduler/latency.ts';
import type { LatencyModel, Tier, View, Waiting } from '../../src/scheduler/policy.ts';
import type { Requirements, Scheduler, Settle } from '../../src/scheduler/scheduler.ts';

/** Three sub-networks: the deepest takes twice as long as the shallowest. */
export const TIERS: readonly Tier[] = [
  { skip: 'TT', accuracy: 0.8, macs: 10 },
  { skip: 'TF', accuracy: 0.86, macs: 15 },
  { skip: 'FF', accuracy: 0.9, macs: 20 },
];

/** The base-net is wrong on half of its least sure fifth; the super-net is right there. */
const AGAIN = {
  skip: 'FF',
  bins: [
    { below: 0.5, share: 0.2, first: 0.5, second: 0.9 },
    { below: 1, share: 0.8, first: 0.9, second: 0.9 },
  ],
};
export const AGAIN_TIERS: readonly Tier[] = [
  { skip: 'TT', accuracy: 0.82, macs: 10, again: AGAIN },
  { skip: 'FF', accuracy: 0.9, macs: 20 },
];
/** Ms: the base-net takes 2 for an image, the super-net 4. */
export const AGAIN_TABLE = { TT: { 1: 2, 8: 9 }, FF: { 1: 4, 8: 18 } };

/** Of a scheduler whose inputs are how sure the base-net will be of them; the super-net is sure of all. */
export const againOptions = (clock: VirtualClock) => ({
  tiers: () => AGAIN_TIERS,
  latency: new MeasuredLatency(AGAIN_TABLE),
  clock,
  maxBatch: 8,
  confidence: (output: number, tier: Tier) => (tier.skip === 'FF' ? 0.95 : output),
});

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

/** As `submit`, but all is told to `settle`: a promise would hide that it is told twice. */
export function submitTo<Input, Output>(
  settle: Settle<Output>,
  scheduler: Scheduler<Input, Output>,
  input: Input,
  needs: Requirements,
): void {
  try {
    const [place] = scheduler.reserve(1, needs);
    scheduler.enqueue([{ place: place!, input, settle }]);
  } catch (error) {
    settle.reject(error);
  }
}
