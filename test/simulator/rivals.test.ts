import { describe, expect, test } from 'vitest';
import type { Policy, Tier, Unsure, View, Waiting } from '../../src/scheduler/policy.ts';
import { bentoml } from '../../bench/simulator/rivals/bentoml.ts';
import { cascade, gears } from '../../bench/simulator/rivals/cascades.ts';
import { fixed } from '../../bench/simulator/rivals/fixed.ts';
import { infaas } from '../../bench/simulator/rivals/infaas.ts';
import { maxAcc } from '../../bench/simulator/rivals/maxacc.ts';
import { maxBatch } from '../../bench/simulator/rivals/maxbatch.ts';
import { fill, slackfit } from '../../bench/simulator/rivals/slackfit.ts';
import { linear, TIERS, view, waiting } from '../scheduler/support.ts';

// Times by batch size 1, 2, 3, ...: TT 2, 3, 4, ... ms; TF 3, 4.5, 6, ...; FF 4, 6, 8, ...
const many = (deadline: number, count = 8) =>
  Array.from({ length: count }, (_, id) => waiting(id, deadline));

function decided(policy: Policy, queue: readonly Waiting[]) {
  const { run, expire } = policy.decide(view(queue));
  return {
    choice: run && `${run.tier.skip} x ${run.batch.length}`,
    expired: expire.map(({ id }) => id),
  };
}

describe('fixed', () => {
  test('batches as far as the slack of the head allows, on its one sub-network', () => {
    expect(decided(fixed('FF'), many(9)).choice).toBe('FF x 3');
    expect(decided(fixed('TT'), many(9)).choice).toBe('TT x 8');
  });

  test('drops what its sub-network cannot answer, though a cheaper one could', () => {
    expect(decided(fixed('FF'), [waiting(0, 3), waiting(1, 5)])).toEqual({
      choice: 'FF x 1',
      expired: [0],
    });
  });

  test('refuses a floor above its sub-network', () => {
    expect(fixed('TT').admit(view([]), waiting(0, 9, { minAccuracy: 0.9 }))?.reason).toBe(
      'accuracy-unavailable',
    );
  });
});

describe('MaxBatch', () => {
  test('takes the largest batch first, then the most accurate that still meets the slack', () => {
    // All 8 fit TT in 9 ms; FF needs 18, TF 13.5.
    expect(decided(maxBatch, many(9)).choice).toBe('TT x 8');
    expect(decided(maxBatch, many(14)).choice).toBe('TF x 8');
    expect(decided(maxBatch, many(18)).choice).toBe('FF x 8');
  });
});

describe('MaxAcc', () => {
  test('takes the most accurate sub-network first, then the largest batch', () => {
    expect(decided(maxAcc, many(9)).choice).toBe('FF x 3');
    expect(decided(maxAcc, many(3.5)).choice).toBe('TF x 1');
  });
});

describe('SlackFit', () => {
  test('keeps for each bucket of latency the tuple with the largest batch', () => {
    // L(TT, 1) = 2 to L(FF, 8) = 18: sixteen buckets of 1 ms.
    const buckets = fill(TIERS, linear(1), 8);
    expect(buckets.map(({ tier, batch, time }) => [tier.skip, batch, time])).toEqual([
      ['TT', 1, 2],
      // 3 to 4 ms: two images on TT, one on TF.
      ['TT', 2, 3],
      // 4 to 5 ms: two on TF (4.5), one on FF (4).
      ['TF', 2, 4.5],
      // 5 to 6 ms: four on TT.
      ['TT', 4, 5],
      ['FF', 2, 6],
      ['TF', 4, 7.5],
      ['TT', 8, 9],
      ['FF', 4, 10],
      ['TF', 8, 13.5],
      ['FF', 8, 18],
    ]);
  });

  test('takes the bucket just below the slack of the head', () => {
    expect(decided(slackfit, many(9)).choice).toBe('TT x 8');
    expect(decided(slackfit, many(12)).choice).toBe('FF x 4');
    expect(decided(slackfit, many(100)).choice).toBe('FF x 8');
  });

  test('runs fewer when fewer wait', () => {
    expect(decided(slackfit, many(9, 3)).choice).toBe('TT x 3');
  });
});

describe('INFaaS-like', () => {
  test('takes the cheapest sub-network of the accuracy asked for, however idle', () => {
    expect(decided(infaas, many(100, 1)).choice).toBe('TT x 1');
    expect(decided(infaas, [waiting(0, 100, { minAccuracy: 0.85 })]).choice).toBe('TF x 1');
  });

  test('a batch ends before the first that wants more', () => {
    const queue = [waiting(0, 50), waiting(1, 50), waiting(2, 50, { minAccuracy: 0.9 })];
    expect(decided(infaas, queue).choice).toBe('TT x 2');
  });
});

describe('BentoML-like', () => {
  test('serves in order of arrival, whatever the deadlines', () => {
    const queue = [waiting(0, 40, { arrivedAt: -1 }), waiting(1, 50, { arrivedAt: -3 })];
    expect(bentoml.decide(view(queue)).run?.batch.map(({ id }) => id)).toEqual([1, 0]);
  });

  test('rejects the head when the line predicts the batch too late for it', () => {
    // FF: 2 + 2n ms. All eight would end at 18; without the head seven end at 16.
    const queue = [waiting(0, 17, { arrivedAt: -2 }), ...many(30, 8).slice(1)];
    expect(decided(bentoml, queue)).toEqual({ choice: 'FF x 7', expired: [0] });
  });
});

describe('cascades', () => {
  // Gains do not matter to them, only shares of the images.
  const bins = [
    { below: 0.2, share: 0.05 },
    { below: 0.3, share: 0.05 },
    { below: 0.5, share: 0.1 },
    { below: 0.7, share: 0.2 },
    { below: 1, share: 0.6 },
  ].map((bin) => ({ ...bin, first: 0.8, second: 0.9 }));
  const base: Tier = { ...TIERS[0]!, again: { skip: 'FF', bins } };
  const unsure = (confidence: number, id: number, deadline = 50): Unsure => ({
    ...waiting(id, deadline),
    look: { tier: base, confidence },
  });
  const seen = (images: readonly Unsure[], rest: Partial<View> = {}) =>
    view([], { tiers: [base, ...TIERS.slice(1)], unsure: images, ...rest });
  const sures = [0.2, 0.3, 0.5, 0.7, 1].map((confidence, id) => unsure(confidence, id));

  test('look first with the cheapest sub-network', () => {
    for (const policy of [cascade, gears]) expect(decided(policy, many(100)).choice).toBe('TT x 8');
  });

  test('cascade looks again at the least sure fifth, on the deepest sub-network', () => {
    const { leave, wakeAt } = cascade.secondLooks!.leaving(seen(sures));
    expect(leave.map(({ look }) => look.confidence)).toEqual([0.7, 1]);
    // One image takes 4 ms there.
    expect(wakeAt).toBe(46);
    // As many as the slack of the first allows: three take 8 ms, four 10.
    const images = [unsure(0.2, 0, 9), ...sures.slice(1, 4)];
    const { batch, tier } = cascade.secondLooks!.choose(seen(images))!;
    expect(`${tier.skip} x ${batch.length}`).toBe('FF x 3');
  });

  test('cascade lets go who has no time for a second look', () => {
    const images = [unsure(0.2, 0, 4), unsure(0.2, 1, 4.5)];
    expect(cascade.secondLooks!.leaving(seen(images))).toEqual({ leave: [images[0]], wakeAt: 0.5 });
  });

  test.each([
    // Images per ms; full batches of the base-net take 9 / 8 ms for each.
    { rate: 0.2, engines: 1, share: '40 %', stay: [0.2, 0.3, 0.5, 0.7] },
    { rate: 0.4, engines: 1, share: '20 %', stay: [0.2, 0.3, 0.5] },
    { rate: 0.6, engines: 1, share: '10 %', stay: [0.2, 0.3] },
    { rate: 0.7, engines: 1, share: '5 %', stay: [0.2] },
    { rate: 0.8, engines: 1, share: '0 %', stay: [] },
    { rate: 0.8, engines: 2, share: '20 %', stay: [0.2, 0.3, 0.5] },
  ])('gears look again at $share at a rate of $rate on $engines', ({ rate, engines, stay }) => {
    const rest = {
      arrivals: { rate, dispersion: 1, budgets: [50] },
      enginesFreeAt: Array.from({ length: engines }, () => -Infinity),
    };
    const { leave } = gears.secondLooks!.leaving(seen(sures, rest));
    const left = sures.filter((image) => !leave.includes(image));
    expect(left.map(({ look }) => look.confidence)).toEqual(stay);
  });
});
