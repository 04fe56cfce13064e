import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isRanked, paretoFront, rankedTiers } from '../../src/model/ladder.ts';
import type { Manifest } from '../../src/model/manifest.ts';

const tier = (skip: string, accuracy: number, macs = 1) => ({ skip, accuracy, macs });

describe('the Pareto front', () => {
  it('leaves out what is slower and no more accurate', () => {
    const tiers = [tier('FF', 0.92), tier('FT', 0.9), tier('TF', 0.89), tier('TT', 0.88)];
    const table = { FF: { 1: 4 }, FT: { 1: 2 }, TF: { 1: 3 }, TT: { 1: 1 } };
    expect(paretoFront(tiers, table).map(({ skip }) => skip)).toEqual(['TT', 'FT', 'FF']);
  });

  it('counts every batch size alike', () => {
    const tiers = [tier('F', 0.9), tier('T', 0.8)];
    // Slower at batch 1 by 10 %, faster at batch 32 by half: faster on the whole.
    const table = { F: { 1: 1, 32: 20 }, T: { 1: 1.1, 32: 10 } };
    expect(paretoFront(tiers, table).map(({ skip }) => skip)).toEqual(['T', 'F']);
  });

  it('holds for any figures: every tier left out is beaten, none kept is', () => {
    const figures = fc.record({
      accuracy: fc.double({ min: 0, max: 1, noNaN: true }),
      ms: fc.integer({ min: 1, max: 100 }),
    });
    fc.assert(
      fc.property(fc.array(figures, { minLength: 1, maxLength: 16 }), (rows) => {
        const tiers = rows.map(({ accuracy }, index) => tier(String(index), accuracy));
        const table = Object.fromEntries(rows.map(({ ms }, index) => [String(index), { 1: ms }]));
        const front = new Set(paretoFront(tiers, table));
        const beaten = (a: (typeof tiers)[number]) =>
          tiers.some(
            (b) =>
              b !== a &&
              table[b.skip]![1] <= table[a.skip]![1] &&
              b.accuracy >= a.accuracy &&
              front.has(b),
          );
        for (const one of tiers) expect(front.has(one)).toBe(!beaten(one));
      }),
    );
  });
});

describe('ranking sub-networks', () => {
  const manifest = (top1: (number | null)[]) =>
    ({
      name: 'test',
      subNetworks: top1.map((accuracy, index) => ({
        skip: index ? 'T' : 'F',
        top1: accuracy,
        macs: index ? 50 : 100,
      })),
    }) as unknown as Manifest;

  it('goes by measured accuracy', () => {
    expect(rankedTiers(manifest([0.9, 0.8])).map(({ accuracy }) => accuracy)).toEqual([0.9, 0.8]);
  });

  it('goes by cost where nothing was measured', () => {
    expect(rankedTiers(manifest([null, null])).map(({ accuracy }) => accuracy)).toEqual([1, 0.5]);
  });

  it('refuses a single known accuracy: that is no ladder', () => {
    expect(() => rankedTiers(manifest([0.9, null]))).toThrow(/no ladder/);
  });

  it('says which can be ranked: the measured ones, or all where none is', () => {
    const named = (top1: (number | null)[]) =>
      ['F', 'T'].map((skip) => isRanked(manifest(top1), skip));
    expect(named([0.9, 0.8])).toEqual([true, true]);
    expect(named([0.9, null])).toEqual([true, false]);
    expect(named([null, null])).toEqual([true, true]);
  });
});

describe('a second look', () => {
  const bins = [
    { below: 0.5, share: 0.2, first: 0.4, second: 0.5 },
    { below: 1, share: 0.8, first: 0.95, second: 0.95 },
  ];
  const subNetworks = [
    { skip: 'FF', top1: 0.9, macs: 100 },
    { skip: 'TF', top1: 0.92, macs: 80 },
    { skip: 'FT', top1: 0.92, macs: 90 },
    { skip: 'TT', top1: 0.88, macs: 60 },
  ];
  const looks = (second: string) =>
    rankedTiers({
      name: 'test',
      subNetworks,
      confidence: { secondLooks: [{ first: 'TT', second, bins }] },
    } as unknown as Manifest);

  // Else none would ever come about: the super-net need not be on the front.
  it('is by the most accurate sub-network, the cheapest of equals, as that is on every front', () => {
    for (const second of ['TF', 'FF']) {
      const { again } = looks(second).find(({ skip }) => skip === 'TT')!;
      expect(again!.skip).toBe('TF');
      // At everything, it comes to what that one gets right.
      const gained = again!.bins.reduce(
        (sum, bin) => sum + bin.share * (bin.second - bin.first),
        0,
      );
      expect(gained).toBeCloseTo(0.92 - 0.88);
    }
  });

  it.each(['cifar10', 'grocery'])(
    'of models/%s is worth it for every first look on the front by MACs',
    (name) => {
      const url = new URL(`../../models/${name}/model.json`, import.meta.url);
      const manifest = JSON.parse(readFileSync(url, 'utf8')) as Manifest;
      const tiers = rankedTiers(manifest);
      const macs = Object.fromEntries(tiers.map((one) => [one.skip, { 1: one.macs }]));
      const front = paretoFront(tiers, macs);
      expect(front.length).toBeGreaterThan(3);
      for (const { again } of front.slice(0, -1)) expect(again?.skip).toBe(front.at(-1)!.skip);
      // Measured with the one that looks again.
      for (const { second } of manifest.confidence!.secondLooks) {
        expect(second).toBe(front.at(-1)!.skip);
      }
    },
  );
});
