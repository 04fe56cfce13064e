import type { Request } from './arrivals.ts';
import { byAccuracy, byCount } from './bound/batches.ts';
import { divisibleBound } from './bound/divisible.ts';
import type { Bound } from './bound/divisible.ts';
import { pricedBound } from './bound/prices.ts';
import type { Profile } from './tables.ts';

/** No bound may fall below what it bounds by a rounding error. */
const ROUNDING = 1e-12;

/**
 * The lower of two clairvoyant upper bounds, for each figure: one cuts work at will, the other
 * keeps batches whole and lets requests be answered more than once at a price. Each is the closer
 * one somewhere. The second knows no second looks, so there the first alone bounds accuracy.
 *
 * @param settled asked after the first, whether it is close enough: the second takes a hundred
 *   times as long.
 */
export function upperBound(
  profile: Profile,
  requests: readonly Request[],
  engines: number,
  settled: (bound: Bound) => boolean = () => false,
): Bound {
  const total = requests.length;
  if (total === 0) return { attainment: 0, accuracy: 0, delivered: 0 };
  const divisible = divisibleBound(profile, requests, engines);
  const counts = byCount(profile, requests);
  if (counts.length === 0 || settled(divisible)) return divisible;
  const delivered = profile.tiers.some(({ again }) => again)
    ? divisible.delivered
    : Math.min(divisible.delivered, pricedBound(byAccuracy(profile), requests, engines) / total);
  const attainment = Math.min(
    divisible.attainment,
    pricedBound(counts, requests, engines) / total,
    // No answer is less accurate than the cheapest sub-network's.
    (delivered / profile.tiers[0]!.accuracy) * (1 + ROUNDING),
  );
  return { attainment, accuracy: attainment === 0 ? 0 : delivered / attainment, delivered };
}
