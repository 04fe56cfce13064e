import { admitted } from '../policy.ts';
import type { SecondLooks, Unsure, View } from '../policy.ts';
import { costsOf } from './costs.ts';
import { Demand } from './demand.ts';
import { secondOf } from './gain.ts';
import { deadlinesOf, latestPlan, longestBatchMs } from './plan.ts';
import { outlookOf, priceOf } from './price.ts';

/** To be as sure as the request asked is worth as much as an answer. */
const WANTED = 1;

/** Expected gain of looking at this image again. */
function gainOf({ look, minConfidence = 0 }: Unsure): number {
  if (look.confidence < minConfidence) return WANTED;
  const bin = look.tier.again!.bins.find(({ below }) => look.confidence <= below);
  return bin ? bin.second - bin.first : 0;
}

/**
 * An answer leaves when a second look would gain less than its engine time costs others, or would
 * come too late.
 */
function leaving(view: View): ReturnType<SecondLooks['leaving']> {
  const costs = costsOf(view);
  const { perMs } = priceOf(outlookOf(view, costs), costs);
  const limit = longestBatchMs(view.arrivals.budgets);
  const leave: Unsure[] = [];
  let wakeAt = Infinity;
  for (const request of view.unsure) {
    const second = secondOf(request.look.tier, costs);
    const latest = second < 0 ? -Infinity : request.deadline - costs.ms(second, 1);
    const worth = second < 0 ? 0 : gainOf(request) - perMs * costs.efficientMs(second, limit);
    if (worth <= 0 || latest <= view.now) leave.push(request);
    else wakeAt = Math.min(wakeAt, latest);
  }
  return { leave, wakeAt: wakeAt === Infinity ? null : wakeAt };
}

/**
 * The batch of second looks that gains most after paying for its time, of those that are all in
 * time and leave room for every promised answer.
 */
function choose(view: View): ReturnType<SecondLooks['choose']> {
  const { now, unsure, maxBatch } = view;
  const costs = costsOf(view);
  const outlook = outlookOf(view, costs);
  const price = priceOf(outlook, costs);
  const demand = new Demand(view.arrivals);
  const promised = admitted(view);
  const { latest } = latestPlan(
    deadlinesOf(promised),
    costs.floors(promised),
    costs,
    view.enginesFreeAt.length,
  );
  const mine = view.enginesFreeAt.findIndex((at) => at <= now);
  const otherFree = Math.min(
    ...view.enginesFreeAt.map((at, i) => (i === mine ? Infinity : Math.max(at, now))),
  );
  let best: ReturnType<SecondLooks['choose']> = null;
  let most = 0;
  for (const tier of new Set(unsure.map(({ look }) => secondOf(look.tier, costs)))) {
    const candidates = unsure
      .filter(({ look }) => secondOf(look.tier, costs) === tier)
      .map((request) => ({ request, gain: gainOf(request) }))
      .sort((a, b) => b.gain - a.gain);
    for (let size = 1; size <= Math.min(maxBatch, candidates.length); size++) {
      const ms = costs.ms(tier, size);
      if (latest[0]! < now + ms && otherFree > now) break;
      const batch = candidates.filter(({ request }) => now + ms <= request.deadline).slice(0, size);
      if (batch.length < size) break;
      const blocked = demand.lostWhileBusy(Math.min(ms, otherFree - now), costs.ms(0, 1));
      const gain = batch.reduce((sum, each) => sum + each.gain, 0);
      const worth = gain - price.perMs * costs.busyMs(tier, size) - price.request * blocked;
      if (worth > most) {
        most = worth;
        best = { batch: batch.map(({ request }) => request), tier: costs.tiers[tier]! };
      }
    }
  }
  return best;
}

export const secondLooks: SecondLooks = { leaving, choose };
