import type { Tier } from '../policy.ts';
import type { Costs } from './costs.ts';

/**
 * Share of the second looks that a first look hopes for that come about: the rest finds no engine
 * in time. It also settles the choice at low load: one deep look, rather than two.
 */
const COMES_ABOUT = 0.9;

/** Index of the tier of the second look; -1: there is none on the front. */
export function secondOf({ again }: Tier, costs: Costs): number {
  return again ? costs.tiers.findIndex(({ skip }) => skip === again.skip) : -1;
}

/** Least engine time, ms, that a second look after `tier` takes; Infinity: there is none. */
export function secondMs(tier: Tier, costs: Costs, limit: number): number {
  const second = secondOf(tier, costs);
  return second < 0 ? Infinity : costs.efficientMs(second, limit);
}

/** Accuracy that second looks are expected to add to a tier, after paying for their time. */
export function expectedGain(tier: Tier, ms: number, perMs: number): number {
  let gain = 0;
  if (ms === Infinity) return 0;
  for (const { share, first, second } of tier.again!.bins) {
    gain += share * Math.max(0, second - first - perMs * ms);
  }
  return COMES_ABOUT * gain;
}

/** What looking again at everything up to each bin that gains is worth, and takes, per image. */
export function secondLookSteps(
  tier: Tier,
  ms: number,
): readonly { readonly gain: number; readonly ms: number }[] {
  const steps: { gain: number; ms: number }[] = [];
  if (ms === Infinity) return steps;
  let gain = 0;
  let share = 0;
  for (const bin of tier.again!.bins) {
    if (bin.second <= bin.first) break;
    gain += COMES_ABOUT * bin.share * (bin.second - bin.first);
    share += bin.share;
    steps.push({ gain, ms: share * ms });
  }
  return steps;
}
