import type { LatencyTable } from '../scheduler/latency.ts';
import type { ConfidenceBin, Tier } from '../scheduler/policy.ts';
import { ModelError } from './manifest.ts';
import type { Confidence, Manifest } from './manifest.ts';

/**
 * Every sub-network that can be ranked, as a tier. Where nothing was measured at all, a network
 * is taken to be as accurate as it is expensive: the share of the super-net's MACs.
 *
 * @throws {ModelError} when some, but fewer than two, accuracies are known.
 */
export function rankedTiers(manifest: Manifest): readonly Tier[] {
  const known = manifest.subNetworks.filter(({ top1 }) => top1 !== null);
  if (known.length === 0) {
    const most = Math.max(...manifest.subNetworks.map(({ macs }) => macs));
    return manifest.subNetworks.map(({ skip, macs }) => ({ skip, macs, accuracy: macs / most }));
  }
  if (known.length === 1) {
    throw new ModelError(`${manifest.name}: the accuracy of one sub-network alone is no ladder`);
  }
  const tiers = known.map(({ skip, macs, top1 }): Tier => ({ skip, macs, accuracy: top1! }));
  return withSecondLooks(tiers, manifest.confidence?.secondLooks ?? []);
}

/** Whether a sub-network can be ranked, and so be chosen; where none is measured, all can. */
export function isRanked({ subNetworks }: Manifest, skip: string): boolean {
  const isKnown = subNetworks.some((one) => one.skip === skip && one.top1 !== null);
  return isKnown || subNetworks.every(({ top1 }) => top1 === null);
}

/**
 * Adds what second looks gain. It was measured on fewer images than the accuracies were: looking
 * at everything again must come to the accuracy of the second sub-network, so gains are scaled.
 * The most accurate one looks again, as it is on the front whatever times are measured; where it is
 * not the one that gains were measured with, they are scaled to its accuracy all the same.
 */
export function withSecondLooks(
  tiers: readonly Tier[],
  looks: Confidence['secondLooks'],
): readonly Tier[] {
  const best = mostAccurate(tiers);
  return tiers.map((tier) => {
    const look = looks.find(({ first }) => first === tier.skip);
    const difference = best.accuracy - tier.accuracy;
    if (!look || difference <= 0) return tier;
    const gain = ({ first, second }: ConfidenceBin) => Math.max(0, second - first);
    const all = look.bins.reduce((sum, bin) => sum + bin.share * gain(bin), 0);
    if (all === 0) return tier;
    const bins = look.bins.map((bin) => ({
      ...bin,
      second: bin.first + (gain(bin) * difference) / all,
    }));
    return { ...tier, again: { skip: best.skip, bins } };
  });
}

/** The tier that is expected to be right most often, the cheapest where several are. */
export const mostAccurate = (tiers: readonly Tier[]): Tier =>
  tiers.reduce((a, b) =>
    b.accuracy > a.accuracy || (b.accuracy === a.accuracy && b.macs < a.macs) ? b : a,
  );

/** The network with every block, which costs the most. */
export const superNetOf = (tiers: readonly Tier[]): Tier =>
  tiers.reduce((a, b) => (b.macs > a.macs ? b : a));

/**
 * The measured Pareto front of accuracy against latency, cheapest first: accuracy is not monotone
 * in depth, and a slower sub-network that is no more accurate is never worth running.
 */
export function paretoFront(tiers: readonly Tier[], table: LatencyTable): readonly Tier[] {
  const byCost = tiers
    .map((tier) => ({ tier, cost: relativeCost(table[tier.skip]!) }))
    .sort((a, b) => a.cost - b.cost || b.tier.accuracy - a.tier.accuracy);
  const front: Tier[] = [];
  for (const { tier } of byCost) {
    const best = front.at(-1);
    if (!best || tier.accuracy > best.accuracy) front.push(tier);
  }
  return front;
}

/** Geometric mean over batch sizes, so that every batch size counts alike. */
function relativeCost(row: Readonly<Record<number, number>>): number {
  const times = Object.values(row);
  return Math.exp(times.reduce((sum, ms) => sum + Math.log(ms), 0) / times.length);
}
