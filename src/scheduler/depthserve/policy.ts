import type { Decision, Policy, View, Waiting } from '../policy.ts';
import { admit, givenUp } from './admission.ts';
import { costsOf } from './costs.ts';
import { Demand } from './demand.ts';
import { P95, normalTail } from './distributions.ts';
import { levelsOf } from './levels.ts';
import { ROUNDING_MS, firstFeasible, otherEngines, planOf, startOf } from './plan.ts';
import { priceOf } from './price.ts';
import { secondLooks } from './second-look.ts';

/**
 * As much expected accuracy in time as can be: promises first, load as a price. Of all batches that
 * meet the head's deadline and lose the fewest behind it, the one that is worth most after paying
 * for its engine time; docs/scheduling.md has the formulas.
 */
export const depthserve: Policy = { name: 'depthserve', admit, decide, hopeless, secondLooks };

function hopeless(view: View): Pick<Decision, 'expire' | 'giveUp' | 'wakeAt'> {
  const { expire, wakeAt } = expiring(view);
  const left = without(expire, view);
  return { expire, giveUp: givenUp(left, startOf(left)), wakeAt };
}

/** An engine may come free at the very last moment. */
const GRACE_MS = 0.01;

/** Requests that no sub-network can answer in time even if it started now. */
function expiring(view: View): { expire: Waiting[]; wakeAt: number | null } {
  const costs = costsOf(view);
  const expire: Waiting[] = [];
  let soonest = Infinity;
  for (const request of view.queue) {
    const latest = request.deadline - costs.busyMs(costs.floor(request), 1);
    // What cannot be predicted has no hope either.
    if (!(latest >= view.now - ROUNDING_MS)) expire.push(request);
    else if (latest < soonest) soonest = latest;
  }
  return { expire, wakeAt: soonest === Infinity ? null : soonest + GRACE_MS };
}

function without(gone: readonly Waiting[], view: View): View {
  if (gone.length === 0) return view;
  const ids = new Set(gone.map(({ id }) => id));
  const kept = ({ id }: Waiting) => !ids.has(id);
  return { ...view, queue: view.queue.filter(kept), admitted: view.admitted.filter(kept) };
}

function decide(all: View): Decision {
  const { expire } = expiring(all);
  const alive = without(expire, all);
  // An engine is free: who cannot be answered with the others from now on is told so.
  const giveUp = givenUp(alive, alive.now);
  // Some of them are ready: in the same order, so the first.
  let ready = 0;
  for (const { request } of giveUp) if (alive.queue[ready]?.id === request.id) ready++;
  const view = { ...alive, queue: alive.queue.slice(ready) };
  const run = view.queue.length > 0 ? bestBatch(view, giveUp.length) : null;
  return { expire, giveUp, run, wakeAt: null };
}

/** Cost, in accuracy, of losing a request that could be kept: more than any gain. */
const PROMISE = 1000;

/** @param gone how many of the first that are admitted are given up. */
function bestBatch(view: View, gone: number): NonNullable<Decision['run']> {
  const { now, queue, admitted, maxBatch, enginesFreeAt } = view;
  const costs = costsOf(view);
  const plan = planOf(view);
  const demand = new Demand(view.arrivals);
  const price = priceOf(view, demand, gone);
  // With the second looks that are worth their time.
  const gains = costs.tiers.map(() => -Infinity);
  for (const { tier, accuracy, ms, first } of levelsOf(view).ways) {
    const gain = accuracy - price.perMs * (ms - first.imageMs) - price.request;
    gains[tier] = Math.max(gains[tier]!, gain);
  }
  const slack = queue[0]!.deadline - now;
  const others = otherEngines(view);
  const othersBusyMs = Math.max(0, Math.min(...others) - now);
  const reservedMs = costs.busyMs(0, maxBatch) / maxBatch / enginesFreeAt.length;

  let floor = 0;
  let behind = gone;
  const heads = queue.slice(0, maxBatch).map((request) => {
    floor = Math.max(floor, costs.floor(request));
    // Whose input is not ready can't be started, but must find the time that it was promised.
    while (admitted[behind++]!.id !== request.id);
    return { floor, behind };
  });

  let best = -Infinity;
  // The head alone on its cheapest tier has hope, whatever else cannot be predicted.
  let run = { size: 1, tier: heads[0]!.floor };
  // At equal worth the larger batch, then the deeper tier.
  for (let size = heads.length; size > 0; size--) {
    const head = heads[size - 1]!;
    for (let tier = costs.tiers.length - 1; tier >= head.floor; tier--) {
      const ms = costs.busyMs(tier, size);
      if (!(ms <= slack)) continue;
      // What is gained over the best that this time could give: per image, for all that wait,
      // were they to go as this batch does. Being late and blocking others only take from it.
      let gain = queue.length * (gains[tier]! - (price.perMs * ms) / size);
      if (gain <= best) continue;
      const atMost = costs.ms(tier, size);
      const blocked = demand.lostWhileBusy(Math.min(atMost, othersBusyMs), costs.ms(0, 1));
      const late = lateness(queue, size, now + ms, (atMost - ms) / P95);
      const lost = price.request * blocked + costs.tiers[tier]!.accuracy * late;
      gain -= (queue.length * lost) / size;
      if (gain <= best) continue;
      const start = startOf(view, [...others, now + ms]) + (head.behind - gone - size) * reservedMs;
      gain -= PROMISE * (firstFeasible(plan, head.behind, start) - head.behind);
      if (!(gain > best)) continue;
      best = gain;
      run = { size, tier };
    }
  }
  return { batch: queue.slice(0, run.size), tier: costs.tiers[run.tier]! };
}

/** Less than this chance of being late is none. */
const NEGLIGIBLE = 1e-4;

/** How many of the first are expected to be late for a batch that ends then, more or less. */
function lateness(queue: readonly Waiting[], batch: number, end: number, deviation: number) {
  if (!(deviation > 0)) return 0;
  let late = 0;
  for (let i = 0; i < batch; i++) {
    const chance = normalTail((queue[i]!.deadline - end) / deviation);
    if (chance < NEGLIGIBLE) break;
    late += chance;
  }
  return late;
}
