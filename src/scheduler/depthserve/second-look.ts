import type { SecondLooks, Unsure, View } from '../policy.ts';
import { costsOf } from './costs.ts';
import { Demand } from './demand.ts';
import { levelsOf, secondOf } from './levels.ts';
import { otherEngines, planOf } from './plan.ts';
import { priceOf } from './price.ts';

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
  const { perMs } = priceOf(view, new Demand(view.arrivals));
  const { efficient } = levelsOf(view);
  const leave: Unsure[] = [];
  let wakeAt = Infinity;
  for (const request of view.unsure) {
    const second = secondOf(request.look.tier, costs);
    const latest = request.deadline - costs.ms(second, 1);
    // Where there is no tier for it, there is no time, and no worth.
    const worth = gainOf(request) - perMs * (efficient[second]?.imageMs ?? NaN);
    if (worth > 0 && latest > view.now) wakeAt = Math.min(wakeAt, latest);
    else leave.push(request);
  }
  return { leave, wakeAt: wakeAt === Infinity ? null : wakeAt };
}

/**
 * Those that gain most, in the batch that is worth most after paying for its time, of those that
 * are in time and leave room for every promised answer.
 */
function choose(view: View): ReturnType<SecondLooks['choose']> {
  const { now, unsure, maxBatch } = view;
  const costs = costsOf(view);
  const demand = new Demand(view.arrivals);
  const price = priceOf(view, demand);
  const othersFreeAt = Math.max(now, Math.min(...otherEngines(view)));
  const { latest } = planOf(view);
  const gains = new Map(unsure.map((request) => [request, gainOf(request)]));
  const byGain = unsure.toSorted((a, b) => gains.get(b)! - gains.get(a)!);
  const seconds = byGain.map(({ look }) => secondOf(look.tier, costs));
  const [tier = -1] = seconds;
  if (tier < 0) return null;
  const alike = byGain.filter((_, i) => seconds[i] === tier);
  let best: readonly Unsure[] = [];
  let most = 0;
  for (let size = 1; size <= Math.min(maxBatch, alike.length); size++) {
    const ms = costs.ms(tier, size);
    if (latest[0]! < now + ms && othersFreeAt > now) break;
    const batch = alike.filter(({ deadline }) => now + ms <= deadline).slice(0, size);
    if (batch.length < size) break;
    const blocked = demand.lostWhileBusy(Math.min(ms, othersFreeAt - now), costs.ms(0, 1));
    const gain = batch.reduce((sum, request) => sum + gains.get(request)!, 0);
    const worth = gain - price.perMs * costs.busyMs(tier, size) - price.request * blocked;
    if (worth <= most) continue;
    most = worth;
    best = batch;
  }
  return best.length > 0 ? { batch: best, tier: costs.tiers[tier]! } : null;
}

export const secondLooks: SecondLooks = { leaving, choose };
