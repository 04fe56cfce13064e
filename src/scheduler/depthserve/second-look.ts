import type { SecondLooks, Unsure, View } from '../policy.ts';
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
  const imageMs: number[] = [];
  for (const way of ways) imageMs[way.tier] ??= way.imageMs;
  const leave: Unsure[] = [];
  let wakeAt = Infinity;
  for (const request of view.unsure) {
    const second = secondOf(request.look.tier, view);
    const latest = request.deadline - atMostMs(view, second, 1);
    // Where there is no tier for it, there is no time, and no worth.
    const isWorth = gainOf(request) > perMs * imageMs[second]!;
    if (isWorth && latest > view.now) wakeAt = Math.min(wakeAt, latest);
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
    .map((request) => ({ request, gain: gainOf(request), tier: secondOf(request.look.tier, view) }))
    .sort((a, b) => b.gain - a.gain);
  const alike = looks.filter(({ tier }) => tier === looks[0]!.tier);
  const tier = looks[0]?.tier ?? -1;
  let batch: Unsure[] = [];
  let most = 0;
  for (let size = 1; size <= Math.min(maxBatch, alike.length); size++) {
    const ms = atMostMs(view, tier, size);
    // Whatever other engines do: what waits here is not decoded yet, and may find them occupied.
    if (latest[0]! < now + ms) break;
    const ready: typeof looks = [];
    for (const look of alike) {
      if (ready.length < size && now + ms <= look.request.deadline) ready.push(look);
    }
    if (ready.length < size) break;
    const blocked = demand.lostWhileBusy(Math.min(ms, othersFreeAt - now), atMostMs(view, 0, 1));
    const gain = ready.reduce((sum, look) => sum + look.gain, 0);
    const worth = gain - price.perMs * busyMs(view, tier, size) - price.request * blocked;
    if (worth > most) [most, batch] = [worth, ready.map(({ request }) => request)];
  }
  return most > 0 ? { batch, tier: view.tiers[tier]! } : null;
}

export const secondLooks: SecondLooks = { leaving, choose };
