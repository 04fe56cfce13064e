import { describe, expect, test } from 'vitest';
import { accuracyAfter, confidenceIn, difficultyOf } from '../../bench/simulator/difficulty.ts';
import type { Looked } from '../../src/scheduler/scheduler.ts';
import type { Tier } from '../../src/scheduler/policy.ts';

const BINS = [
  { below: 0.4, share: 0.1, first: 0.3, second: 0.7 },
  { below: 0.7, share: 0.25, first: 0.6, second: 0.8 },
  { below: 1, share: 0.65, first: 0.96, second: 0.98 },
];
/** Right as often as the table says: 0.03 + 0.15 + 0.624. */
const BASE: Tier = { skip: 'TT', accuracy: 0.804, macs: 10, again: { skip: 'FF', bins: BINS } };
const DEEP: Tier = { skip: 'FF', accuracy: 0.9, macs: 20 };

const SEED = 7;
const COUNT = 20_000;
const IMAGES = Array.from({ length: COUNT }, (_, index) => difficultyOf(SEED, index));

/** What a share of so many may deviate by: four standard errors. */
const errorOf = (share: number, count: number) => 4 * Math.sqrt((share * (1 - share)) / count);

const looked = (tier: Tier, output: number): Looked<number> => ({
  tier,
  output,
  confidence: confidenceIn(output, tier),
  at: 0,
  batchSize: 1,
  batchMs: 1,
});
const once = (difficulty: number) => accuracyAfter([looked(BASE, difficulty)]);
const twice = (difficulty: number) =>
  accuracyAfter([looked(BASE, difficulty), looked(DEEP, difficulty)]);

/** Images of the bin, by how sure the base-net is of them. */
const imagesIn = (below: number) => IMAGES.filter((image) => confidenceIn(image, BASE) === below);

/** How many answers are right, each with its own probability: drawn apart from the difficulty. */
const rightOf = (images: readonly number[], probability: (image: number) => number) =>
  images.filter((image, index) => difficultyOf(SEED + 1, index) < probability(image)).length;

describe('images of a simulation', () => {
  test.each(BINS)('are as often as the table says of a confidence up to $below', (bin) => {
    const share = imagesIn(bin.below).length / COUNT;
    expect(Math.abs(share - bin.share)).toBeLessThan(errorOf(bin.share, COUNT));
  });

  test.each(BINS)('of a confidence up to $below are right as often as the table says', (bin) => {
    const images = imagesIn(bin.below);
    for (const [probability, expected] of [
      [once, bin.first],
      [twice, bin.second],
    ] as const) {
      const share = rightOf(images, probability) / images.length;
      expect(Math.abs(share - expected)).toBeLessThan(errorOf(expected, images.length));
    }
  });

  test('are right as often as the accuracy says, where the table is of other images', () => {
    const base = { ...BASE, accuracy: 0.75 };
    const sum = IMAGES.reduce((all, image) => all + accuracyAfter([looked(base, image)]), 0);
    expect(Math.abs(sum / COUNT - 0.75)).toBeLessThan(errorOf(0.75, COUNT));
    // Gains are the table's all the same.
    const [hardest] = imagesIn(0.4);
    const again = [looked(base, hardest!), looked(DEEP, hardest!)];
    expect(accuracyAfter(again) - accuracyAfter(again.slice(0, 1))).toBeCloseTo(0.4);
  });

  test('are as hard again with the same seed, and not with another', () => {
    expect(IMAGES.slice(0, 100)).toEqual(
      Array.from({ length: 100 }, (_, i) => difficultyOf(SEED, i)),
    );
    const hard = IMAGES.map((image, index) => image < 0.5 && difficultyOf(SEED + 1, index) < 0.5);
    const share = hard.filter(Boolean).length / COUNT;
    expect(Math.abs(share - 0.25)).toBeLessThan(errorOf(0.25, COUNT));
  });

  test('are all alike where the manifest has no table', () => {
    expect(confidenceIn(0.01, DEEP)).toBe(0.9);
    expect(accuracyAfter([looked(DEEP, 0.01)])).toBe(0.9);
  });
});
