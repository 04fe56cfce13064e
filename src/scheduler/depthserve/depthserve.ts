import type { Decision, Policy, View, Waiting } from '../policy.ts';
import { admit, givenUp } from './admission.ts';
import { atMostMs, busyMs, floorOf } from './costs.ts';
import { Demand } from './demand.ts';
import { P95, normalTail } from './distributions.ts';
import { waysOf } from './levels.ts';
import { ROUNDING_MS, firstFeasible, otherEngines, planOf, startOf } from './plan.ts';
import { priceOf } from './price.ts';
import { secondLooks } from './second-look.ts';

/**
 * As much expected accuracy in time as can be: promises first, load as a price. Of all batches that
 * meet the head's deadline and lose the fewest behind it, the one that is worth most after paying
 * for its engine time; docs/scheduling.md has the formulas.
 */
export const depthserve: Policy = { name: 'depthserve', admit, decide, hopeless, secondLooks };

function hopeless(all: View): Pick<Decision, 'expire' | 'giveUp' | 'wakeAt'> {
  const { expire, wakeAt, view } = expired(all);
  return { expire, giveUp: givenUp(view, startOf(view)), wakeAt };
}

function decide(all: View): Decision {
  const { expire, wakeAt, view } = expired(all);
  // An engine is free: who cannot be answered with the others from now on is told so.
  const giveUp = givenUp(view, view.now);
  // Some of them are ready: in the same order, so the first.
  let ready = 0;
  for (const { request } of giveUp) if (view.queue[ready]?.id === request.id) ready++;
  const queue = view.queue.slice(ready);
  const run = queue.length > 0 ? bestBatch({ ...view, queue }, giveUp.length) : null;
  return { expire, giveUp, run, wakeAt };
}

/** An engine may come free at the very last moment. */
const GRACE_MS = 0.01;

/** Requests that no sub-network can answer in time even if it started now, and all but them. */
function expired(all: View): { expire: Waiting[]; wakeAt: number | null; view: View } {
  const aloneMs = all.tiers.map((_, tier) => busyMs(all, tier, 1));
  const expire: Waiting[] = [];
  let soonest = Infinity;
  for (const request of all.queue) {
    const latest = request.deadline - aloneMs[floorOf(all, request)]!;
    // What cannot be predicted has no hope either.
    if (!(latest >= all.now - ROUNDING_MS)) expire.push(request);
    else if (latest < soonest) soonest = latest;
  }
  const wakeAt = soonest === Infinity ? null : soonest + GRACE_MS;
  // Most often none: what was planned for a list holds for as long as it is the same.
  if (expire.length === 0) return { expire, wakeAt, view: all };
  const ids = new Set(expire.map(({ id }) => id));
  const left = (list: readonly Waiting[]) => list.filter(({ id }) => !ids.has(id));
  return { expire, wakeAt, view: { ...all, queue: left(all.queue), admitted: left(all.admitted) } };
}

/** Cost, in accuracy, of losing a request that could be kept: more than any gain. */
const PROMISE = 1000;

/** @param gone how many of the first that are admitted are given up. */
function bestBatch(view: View, gone: number): NonNullable<Decision['run']> {
  const { now, queue, admitted, tiers, maxBatch, enginesFreeAt } = view;
  const plan = planOf(view);
  const demand = new Demand(view.arrivals);
  const ways = waysOf(view);
  const price = priceOf(view, ways, demand, gone);
  // With the second looks that are worth their time.
  const gains = tiers.map(() => -Infinity);
  for (const { tier, accuracy, ms, imageMs } of ways) {
    gains[tier] = Math.max(gains[tier]!, accuracy - price.perMs * (ms - imageMs) - price.request);
  }
  const slack = queue[0]!.deadline - now;
  const others = otherEngines(view);
  const othersBusyMs = Math.max(0, Math.min(...others) - now);
  const reservedMs = busyMs(view, 0, maxBatch) / maxBatch / enginesFreeAt.length;

  let floor = 0;
  let behind = gone;
  const heads = queue.slice(0, maxBatch).map((request) => {
    floor = Math.max(floor, floorOf(view, request));
    // Whose input is not ready can't be started, but must find the time that it was promised.
    while (admitted[behind++]!.id !== request.id);
    return { floor, behind };
  });

  let best = -Infinity;
  // The head alone on its cheapest tier has hope, whatever else cannot be predicted.
  let run = { size: 1, tier: heads[0]!.floor };
  for (let tier = 0; tier < tiers.length; tier++) {
    // At equal worth the larger batch.
    for (let size = heads.length; size > 0; size--) {
      const head = heads[size - 1]!;
      const ms = busyMs(view, tier, size);
      if (tier < head.floor || !(ms <= slack)) continue;
      // What is gained over the best that this time could give: per image, for all that wait,
      // were they to go as this batch does. Being late and blocking others only take from it.
      let gain = queue.length * (gains[tier]! - (price.perMs * ms) / size);
      if (gain <= best) continue;
      const atMost = atMostMs(view, tier, size);
      const blocked = demand.lostWhileBusy(Math.min(atMost, othersBusyMs), atMostMs(view, 0, 1));
      const late = lateness(queue, size, now + ms, (atMost - ms) / P95);
      gain -= (queue.length * (price.request * blocked + tiers[tier]!.accuracy * late)) / size;
      const start = startOf(view, [...others, now + ms]) + (head.behind - gone - size) * reservedMs;
      gain -= PROMISE * (firstFeasible(plan, head.behind, start) - head.behind);
      if (!(gain > best)) continue;
      best = gain;
      run = { size, tier };
    }
  }
  return { batch: queue.slice(0, run.size), tier: tiers[run.tier]! };
}

/** How many of the first are expected to be late for a batch that ends then, more or less. */
function lateness(queue: readonly Waiting[], batch: number, end: number, deviation: number) {
  if (!(deviation > 0)) return 0;
  let late = 0;
  for (let i = 0; i < batch; i++) late += normalTail((queue[i]!.deadline - end) / deviation);
  return late;
}
