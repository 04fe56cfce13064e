import type { SecondLooks, Tier, Unsure, View } from '../policy.ts';
import { atMostMs, busyMs } from './costs.ts';
import { Demand } from './demand.ts';
import { secondOf, waysOf } from './levels.ts';
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
  const ways = waysOf(view);
  const { perMs } = priceOf(view, ways, new Demand(view.arrivals));
  /** Of a second look, by the tier of the first. NaN without a tier for it: no time, and no worth. */
  const seconds = new Map<Tier, { readonly ms: number; readonly cost: number }>();
  const secondAfter = (first: Tier) => {
    const second = secondOf(first, view);
    const imageMs = ways.find(({ tier }) => tier === second)?.imageMs ?? NaN;
    const found = { ms: atMostMs(view, second, 1), cost: perMs * imageMs };
    seconds.set(first, found);
    return found;
  };
  const leave: Unsure[] = [];
  let wakeAt = Infinity;
  for (const request of view.unsure) {
    const { tier } = request.look;
    const { ms, cost } = seconds.get(tier) ?? secondAfter(tier);
    const latest = request.deadline - ms;
    if (gainOf(request) > cost && latest > view.now) wakeAt = Math.min(wakeAt, latest);
    else leave.push(request);
  }
  return { leave, wakeAt: wakeAt === Infinity ? null : wakeAt };
}

/**
 * Those that gain most, in the batch that is worth most after paying for its time, of those that
 * are in time and leave room for every promised answer.
 */
function choose(view: View): ReturnType<SecondLooks['choose']> {
  const { now, maxBatch } = view;
  const demand = new Demand(view.arrivals);
  const price = priceOf(view, waysOf(view), demand);
  const othersFreeAt = Math.max(now, Math.min(...otherEngines(view)));
  const { latest } = planOf(view);
  const looks = view.unsure
    .map((request) => ({ request, gain: gainOf(request) }))
    .sort((a, b) => b.gain - a.gain);
  const best = looks[0]?.request.look.tier;
  const alike = looks.filter(({ request }) => request.look.tier.again!.skip === best!.again!.skip);
  const tier = best ? secondOf(best, view) : -1;
  let chosen: typeof looks = [];
  let most = 0;
  for (let size = 1; size <= Math.min(maxBatch, alike.length); size++) {
    const ms = atMostMs(view, tier, size);
    // Whatever other engines do: what waits here is not decoded yet, and may find them occupied.
    if (latest[0]! < now + ms) break;
    const batch = firstFew(size, alike, ({ request }) => now + ms <= request.deadline);
    if (batch.length < size) break;
    const blocked = demand.lostWhileBusy(Math.min(ms, othersFreeAt - now), atMostMs(view, 0, 1));
    const gain = batch.reduce((sum, look) => sum + look.gain, 0);
    const worth = gain - price.perMs * busyMs(view, tier, size) - price.request * blocked;
    if (worth > most) [most, chosen] = [worth, batch];
  }
  const batch = chosen.map(({ request }) => request);
  return batch.length > 0 ? { batch, tier: view.tiers[tier]! } : null;
}

/** As `filter`, but stops when it has found enough. */
function firstFew<T>(count: number, among: readonly T[], suits: (one: T) => boolean): T[] {
  const few: T[] = [];
  for (const one of among) {
    if (few.length === count) break;
    if (suits(one)) few.push(one);
  }
  return few;
}

export const secondLooks: SecondLooks = { leaving, choose };
