import { admitted } from '../policy.ts';
import type { Decision, Policy, View, Waiting } from '../policy.ts';
import { admit, givenUp } from './admission.ts';
import { costsOf } from './costs.ts';
import type { Costs } from './costs.ts';
import { Demand } from './demand.ts';
import { expectedGain, secondMs } from './gain.ts';
import {
  ROUNDING_MS,
  deadlinesOf,
  firstFeasible,
  latestPlan,
  longestBatchMs,
  nextStart,
} from './plan.ts';
import { P95, normalTail, priceOf } from './price.ts';
import type { Price } from './price.ts';
import { secondLooks } from './second-look.ts';

/**
 * Deadlines as constraints, load as a price. Of all batches that meet the head's deadline, the one
 * that is worth most after paying for its engine time, among those that lose the fewest of the
 * requests behind it; docs/scheduling.md explains the price.
 */
export const depthserve: Policy = { name: 'depthserve', admit, decide, hopeless, secondLooks };

function hopeless(view: View): Pick<Decision, 'expire' | 'giveUp' | 'wakeAt'> {
  const { expire, wakeAt } = expiring(view);
  return { expire, giveUp: givenUp({ ...view, queue: without(expire, view.queue) }), wakeAt };
}

/** An engine may come free at the very last moment. */
const GRACE_MS = 0.01;

/** Requests that no sub-network can answer in time even if it started now. */
function expiring(view: View): { expire: Waiting[]; wakeAt: number | null } {
  const { queue, now } = view;
  const costs = costsOf(view);
  const floors = costs.floors(queue);
  const expire: Waiting[] = [];
  let soonest = Infinity;
  for (let i = 0; i < queue.length; i++) {
    const latest = queue[i]!.deadline - costs.busyMs(floors[i]!, 1);
    // What cannot be predicted has no hope either.
    if (!(latest >= now - ROUNDING_MS)) expire.push(queue[i]!);
    else if (latest < soonest) soonest = latest;
  }
  return { expire, wakeAt: soonest === Infinity ? null : soonest + GRACE_MS };
}

function without(gone: readonly Waiting[], queue: readonly Waiting[]): readonly Waiting[] {
  return gone.length === 0 ? queue : queue.filter((request) => !gone.includes(request));
}

/** Cost, in accuracy, of losing a request that could be kept: more than any gain. */
const PROMISE = 1000;
/** Cost of losing one of those that cannot all be kept; never nothing. */
const LEAST = 0.05;

function decide(view: View): Decision {
  const { now, maxBatch } = view;
  const { expire } = expiring(view);
  const queue = without(expire, view.queue);
  const length = queue.length;
  if (length === 0) return { expire, run: null, wakeAt: null };

  const costs = costsOf(view);
  const floors = costs.floors(queue);
  const engines = view.enginesFreeAt.length;
  const fullBatchMs = costs.busyMs(0, maxBatch);
  // Whose input is not ready can't be started, but must find the time that it was promised.
  const all = admitted({ ...view, queue });
  const allFloors = all === queue ? floors : costs.floors(all);
  const { latest } = latestPlan(deadlinesOf(all), allFloors, costs.typically(), engines);
  const behind = positionsBehind(queue, all);
  const perReservedMs = fullBatchMs / maxBatch / engines;
  const demand = new Demand(view.arrivals);
  const start = nextStart(view.enginesFreeAt, now, fullBatchMs);
  const { arrivals } = view;
  const outlook = { queue: all, floors: allFloors, now, start, engines, arrivals, demand };
  const price = priceOf(outlook, costs);

  const needed = firstFeasible(latest, 0, now);
  const tried = skips(needed, length);
  const mostSlack = queue[tried.at(-1)!]!.deadline - now;
  const choices = choicesOf(view, mostSlack, costs, price, demand);

  // While all can be answered, no gain is worth breaking a promise.
  const perLost = needed === 0 ? PROMISE : Math.max(price.request, LEAST);
  // The head alone has hope, whatever else cannot be predicted.
  let best = -Infinity;
  let first = 0;
  let size = 1;
  let depth = floors[0]!;
  // When not all can be answered, the earliest deadlines are what to give up, if anything.
  for (const skipped of tried) {
    const most = Math.min(maxBatch, length - skipped);
    const slack = queue[skipped]!.deadline - now;
    let floor = 0;
    for (let batch = 1; batch <= most; batch++) {
      floor = Math.max(floor, floors[skipped + batch - 1]!);
      if (costs.busyMs(floor, batch) > slack) break;
      for (let tier = floor; tier < costs.tiers.length; tier++) {
        if (costs.busyMs(tier, batch) > slack) break;
        const choice = tier * costs.width + batch;
        const served = skipped + batch;
        // Being late only costs: what is not worth it without need not be looked at.
        if (-length * choices.regret[choice]! - skipped * perLost < best) continue;
        // Of its own images as of the rest, were it to go as this batch does.
        const late = lateness(queue, skipped, batch, now, costs, tier) / batch;
        const regret = choices.regret[choice]! + late * costs.tiers[tier]!.accuracy;
        const worth = -length * regret - skipped * perLost;
        if (worth < best) continue;
        const rest = behind[served]!;
        const left = choices.again[choice]! + (rest - served) * perReservedMs;
        const lost = firstFeasible(latest, rest, left) - rest;
        const total = worth - lost * perLost;
        // At equal worth the larger batch, then the deeper tier.
        if (total >= best) {
          best = total;
          first = skipped;
          size = batch;
          depth = tier;
        }
      }
    }
  }
  const batch = queue.slice(first, first + size);
  return { expire, run: { batch, tier: costs.tiers[depth]! }, wakeAt: null };
}

/** Less than this chance of being late is none. */
const NEGLIGIBLE = 1e-4;

/** How many of a batch are expected to be late: its time scatters, and the earliest are due first. */
function lateness(
  queue: readonly Waiting[],
  from: number,
  batch: number,
  now: number,
  costs: Costs,
  tier: number,
): number {
  const busy = costs.busyMs(tier, batch);
  const deviation = (costs.ms(tier, batch) - busy) / P95;
  if (!(deviation > 0)) return 0;
  let late = 0;
  for (let i = from; i < from + batch; i++) {
    const chance = normalTail((queue[i]!.deadline - now - busy) / deviation);
    if (chance < NEGLIGIBLE) break;
    late += chance;
  }
  return late;
}

/** What batches on tiers cost whatever is in them; by tier x `costs.width` + batch. */
interface Choices {
  /** When the next batch can start. */
  readonly again: Float64Array;
  /** What an image costs more here than it should, were the rest to go as this batch does. */
  readonly regret: Float64Array;
}

function choicesOf(
  { now, enginesFreeAt, maxBatch, arrivals }: View,
  mostSlack: number,
  costs: Costs,
  price: Price,
  demand: Demand,
): Choices {
  const fullBatchMs = costs.busyMs(0, maxBatch);
  const freeAt = [...enginesFreeAt];
  const mine = freeAt.findIndex((at) => at <= now);
  const otherFree = Math.min(...freeAt.map((at, i) => (i === mine ? Infinity : Math.max(at, now))));
  const quickest = costs.ms(0, 1);
  const limit = longestBatchMs(arrivals.budgets);
  const again = new Float64Array(costs.allMs.length);
  const regret = new Float64Array(costs.allMs.length);
  for (let tier = 0; tier < costs.tiers.length; tier++) {
    const secondTakes = secondMs(costs.tiers[tier]!, costs, limit);
    const accuracy =
      costs.tiers[tier]!.accuracy + expectedGain(costs.tiers[tier]!, secondTakes, price.perMs);
    for (let batch = 1; batch <= maxBatch; batch++) {
      if (costs.busyMs(tier, batch) > mostSlack) continue;
      const ms = costs.busyMs(tier, batch);
      const choice = tier * costs.width + batch;
      freeAt[mine] = now + ms;
      again[choice] = freeAt.length === 1 ? now + ms : nextStart(freeAt, now, fullBatchMs);
      // Promises reckon with the longest that it may take: so must what keeps room for them.
      const longest = Math.min(costs.ms(tier, batch), otherFree - now);
      const blocked = demand.lostWhileBusy(longest, quickest);
      const gain = batch * (accuracy - price.request);
      regret[choice] = (price.perMs * ms + price.request * blocked - gain) / batch;
    }
  }
  return { again, regret };
}

/** How many of the earliest deadlines to try to leave out: none, all that must be, some between. */
function skips(needed: number, length: number): number[] {
  const most = Math.min(needed, length - 1);
  const tried = [0];
  for (let skipped = 1; skipped < most; skipped *= 2) tried.push(skipped);
  if (most > 0) tried.push(most);
  return tried;
}

/** By k: how many of `all` are not due after the first k of the `queue`, which is a part of it. */
function positionsBehind(queue: readonly Waiting[], all: readonly Waiting[]): Int32Array {
  const behind = new Int32Array(queue.length + 1);
  let at = 0;
  for (let k = 0; k < queue.length; k++) {
    while (all[at]!.id !== queue[k]!.id) at++;
    behind[k + 1] = ++at;
  }
  return behind;
}
