import type { Bound } from '../simulator/bound/divisible.ts';

/** Of the accuracy between base-net (`base`) and bound, the part that is recovered. */
export function headroom(ours: Bound, bound: Bound, base: number): number {
  return bound.accuracy - base < 1e-3 ? 1 : (ours.accuracy - base) / (bound.accuracy - base);
}

/** Where the policy stays further below the bound than it should. */
export function missedAims(ours: Bound, bound: Bound, base: number): string[] {
  const missed: string[] = [];
  if (bound.attainment >= 0.999) {
    if (ours.attainment < 0.999) missed.push('attainment');
    if (headroom(ours, bound, base) < 0.9) missed.push('headroom');
  } else if (ours.delivered / bound.delivered < 0.92) missed.push('share of the bound');
  return missed;
}
