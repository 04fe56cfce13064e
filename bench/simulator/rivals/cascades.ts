import type { Policy, SecondLooks, Tier, Unsure, View } from '../../../src/scheduler/policy.ts';
import { batchBySlack } from './common.ts';
import { infaas } from './infaas.ts';

/** Looks again at images of which the first look is at most so sure; not in time: they leave. */
function belowThreshold(threshold: (view: View) => number): SecondLooks {
  const second = ({ tiers }: View, { look }: Unsure): Tier | undefined =>
    tiers.find(({ skip }) => skip === look.tier.again!.skip);
  const latest = (view: View, request: Unsure) => {
    const tier = second(view, request);
    return tier ? request.deadline - view.latency.predict(tier, 1) : -Infinity;
  };
  return {
    leaving(view) {
      const enough = threshold(view);
      const leave = view.unsure.filter(
        (request) => request.look.confidence > enough || latest(view, request) <= view.now,
      );
      const rest = view.unsure.filter((request) => !leave.includes(request));
      const wakeAt = Math.min(...rest.map((request) => latest(view, request)));
      return { leave, wakeAt: rest.length > 0 ? wakeAt : null };
    },
    choose(view) {
      const tier = view.unsure[0] && second(view, view.unsure[0]);
      if (!tier) return null;
      return { batch: batchBySlack(view, view.unsure, tier) as readonly Unsure[], tier };
    },
  };
}

/** The cheapest sub-network for everybody; who is less sure than most waits for an idle engine. */
function firstLookThen(name: string, secondLooks: SecondLooks): Policy {
  return { ...infaas, name, secondLooks };
}

/** Confidence up to which a share of the images is looked at again. */
function confidenceAt(tier: Tier | undefined, share: number): number {
  let upTo = 0;
  let confidence = 0;
  for (const bin of tier?.again?.bins ?? []) {
    upTo += bin.share;
    if (upTo > share + 1e-9) break;
    confidence = bin.below;
  }
  return confidence;
}

/** A fixed fifth of the images is looked at again, when an engine is idle. */
export const cascade: Policy = firstLookThen(
  'cascade',
  belowThreshold(({ tiers }) => confidenceAt(tiers[0], 0.2)),
);

/** Largest shares that CascadeServe's gears look at again, by load of the base-net alone. */
const GEARS = [
  { below: 0.3, share: 0.4 },
  { below: 0.5, share: 0.2 },
  { below: 0.7, share: 0.1 },
  { below: 0.85, share: 0.05 },
];

/**
 * After CascadeServe (arXiv 2406.14424): a plan made beforehand says for each range of request
 * rates (gear) up to which confidence the cascade goes on. Its gears choose models and placement,
 * too, which one set of weights on one machine has no choice of.
 */
export const gears: Policy = firstLookThen(
  'gears',
  belowThreshold((view) => {
    const [base] = view.tiers;
    const perImage = view.latency.typical(base!, view.maxBatch) / view.maxBatch;
    const load = (view.arrivals.rate * perImage) / view.enginesFreeAt.length;
    return confidenceAt(base, GEARS.find(({ below }) => load < below)?.share ?? 0);
  }),
);
