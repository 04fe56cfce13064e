import type { Decision, Policy, View, Waiting } from '../policy.ts';
import { admit, givenUp } from './admission.ts';
import { costsOf } from './costs.ts';
import type { Costs } from './costs.ts';
import { Demand } from './demand.ts';
import { P95, normalTail } from './distributions.ts';
import { levelsOf } from './levels.ts';
import {
  ROUNDING_MS,
  engines,
  firstFeasible,
  giveUpFirst,
  nextStart,
  planOf,
  startOf,
} from './plan.ts';
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
  const { queue, now } = view;
  const costs = costsOf(view);
  const expire: Waiting[] = [];
  let soonest = Infinity;
  for (const request of queue) {
    const latest = request.deadline - costs.busyMs(costs.floor(request), 1);
    // What cannot be predicted has no hope either.
    if (!(latest >= now - ROUNDING_MS)) expire.push(request);
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

/** Cost, in accuracy, of losing a request that could be kept: more than any gain. */
const PROMISE = 1000;

function decide(all: View): Decision {
  const { expire } = expiring(all);
  const alive = without(expire, all);
  // An engine is free: who cannot be answered with the others from now on is told so.
  const giveUp = givenUp(alive, alive.now);
  const view = giveUpFirst(alive, giveUp.length);
  return { expire, giveUp, run: view.queue.length > 0 ? bestBatch(view) : null, wakeAt: null };
}

function bestBatch(view: View): NonNullable<Decision['run']> {
  const { now, queue, admitted, maxBatch, enginesFreeAt, arrivals } = view;
  const costs = costsOf(view);
  const { latest } = planOf(view);
  const floors = costs.floors(queue);
  const demand = new Demand(arrivals);
  const price = priceOf(view, demand);
  // With the second looks that are worth their time.
  const accuracies = levelsOf(view).ways.map(([alone, ...again]) => {
    const worth = again.map(({ accuracy, ms }) => accuracy - price.perMs * (ms - alone!.ms));
    return Math.max(alone!.accuracy, ...worth);
  });
  const slack = queue[0]!.deadline - now;
  const fullMs = costs.busyMs(0, maxBatch);
  const { freeAt, mine, otherFree } = engines(view);

  const most = Math.min(maxBatch, queue.length);
  const floor = new Int32Array(most + 1);
  // Whose input is not ready can't be started, but must find the time that it was promised.
  const behind = new Int32Array(most + 1);
  for (let size = 1, at = 0; size <= most; size++) {
    floor[size] = Math.max(floor[size - 1]!, floors[size - 1]!);
    while (admitted[at]!.id !== queue[size - 1]!.id) at++;
    behind[size] = ++at;
  }
  const reservedMs = fullMs / maxBatch / enginesFreeAt.length;

  // The head alone on its cheapest tier has hope, whatever else cannot be predicted.
  let best = -Infinity;
  let run = { size: 1, tier: floor[1]! };
  // At equal worth the larger batch, then the deeper tier.
  for (let size = most; size > 0; size--) {
    for (let tier = costs.tiers.length - 1; tier >= floor[size]!; tier--) {
      const ms = costs.busyMs(tier, size);
      if (!(ms <= slack)) continue;
      // What is lost against the best that this time could give: per image, for all that wait,
      // were they to go as this batch does. Being late and blocking others only add to it.
      let regret = (price.perMs * ms) / size - (accuracies[tier]! - price.request);
      if (-queue.length * regret <= best) continue;
      const longest = Math.min(costs.ms(tier, size), otherFree - now);
      regret += (price.request * demand.lostWhileBusy(longest, costs.ms(0, 1))) / size;
      if (-queue.length * regret <= best) continue;
      regret += (lateness(queue, size, now, costs, tier) * costs.tiers[tier]!.accuracy) / size;
      if (-queue.length * regret <= best) continue;
      freeAt[mine] = now + ms;
      const again = nextStart(freeAt, now, fullMs) + (behind[size]! - size) * reservedMs;
      const lost = firstFeasible(latest, behind[size]!, again) - behind[size]!;
      const total = -queue.length * regret - lost * PROMISE;
      if (!(total > best)) continue;
      best = total;
      run = { size, tier };
    }
  }
  return { batch: queue.slice(0, run.size), tier: costs.tiers[run.tier]! };
}

/** Less than this chance of being late is none. */
const NEGLIGIBLE = 1e-4;

/** How many of the first are expected to be late: a batch's time scatters. */
function lateness(
  queue: readonly Waiting[],
  batch: number,
  now: number,
  costs: Costs,
  tier: number,
): number {
  const busy = costs.busyMs(tier, batch);
  const deviation = (costs.ms(tier, batch) - busy) / P95;
  if (!(deviation > 0)) return 0;
  let late = 0;
  for (let i = 0; i < batch; i++) {
    const chance = normalTail((queue[i]!.deadline - now - busy) / deviation);
    if (chance < NEGLIGIBLE) break;
    late += chance;
  }
  return late;
}
