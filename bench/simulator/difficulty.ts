import type { ConfidenceBin, Tier } from '../../src/scheduler/policy.ts';
import type { Looked } from '../../src/scheduler/scheduler.ts';

/**
 * How hard the image of a request is: which share of all images is harder, 0 (the hardest) to 1.
 * Hidden from the scheduler until a first look, and the same for every sub-network that looks.
 */
export function difficultyOf(seed: number, index: number): number {
  // A mix of two numbers to 32 even bits (finaliser of MurmurHash3).
  let hash = (Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b)) >>> 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}

/** How sure `tier` is of an image: the manifest's table says it of each share of images. */
export function confidenceIn(difficulty: number, tier: Tier): number {
  return binOf(difficulty, tier)?.below ?? tier.accuracy;
}

/** Probability that the answer after these looks is right. */
export function accuracyAfter(looks: readonly Looked<number>[]): number {
  const { tier, output } = looks[0]!;
  const bin = binOf(output, tier);
  if (!bin) return tier.accuracy;
  // The table is of other images than the accuracy: only differences count.
  const mean = tier.again!.bins.reduce((sum, { share, first }) => sum + share * first, 0);
  return tier.accuracy + (looks.length > 1 ? bin.second : bin.first) - mean;
}

function binOf(difficulty: number, { again }: Tier): ConfidenceBin | undefined {
  let upTo = 0;
  return again?.bins.find(({ share }) => difficulty < (upTo += share)) ?? again?.bins.at(-1);
}
