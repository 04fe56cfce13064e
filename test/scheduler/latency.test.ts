import { describe, expect, test } from 'vitest';
import { MeasuredLatency } from '../../src/scheduler/latency.ts';
import { Random } from '../../bench/simulator/random.ts';
import { TIERS } from './support.ts';

const [shallow, , deep] = TIERS as [(typeof TIERS)[0], (typeof TIERS)[0], (typeof TIERS)[0]];
const model = () => new MeasuredLatency({ TT: { 1: 2, 4: 5, 8: 9 }, FF: { 1: 4, 4: 10, 8: 18 } });

describe('before any batch ran', () => {
  test('predicts the table, straight between measured sizes, in proportion beyond', () => {
    const latency = model();
    expect([1, 2, 4, 6, 8, 16].map((batch) => latency.predict(shallow, batch))).toEqual([
      2, 3, 5, 7, 9, 18,
    ]);
  });

  test('names a sub-network that was not measured', () => {
    expect(() => model().predict({ ...deep, skip: 'FT' }, 1)).toThrow('no latency measured for FT');
    expect(() => new MeasuredLatency({ TT: {} })).toThrow(RangeError);
  });
});

test.each([0, -1, NaN, Infinity])('a table with %d ms in it is refused', (ms) => {
  expect(() => new MeasuredLatency({ TT: { 1: 2, 4: ms } })).toThrow('TT cannot take');
});

describe('slowdown', () => {
  test('follows within five batches when everything takes twice as long', () => {
    const latency = model();
    for (let i = 0; i < 5; i++) latency.observe(shallow, 4, 10);
    expect(latency.slowdown).toBeCloseTo(2);
    // Known for batches that did not run meanwhile.
    expect(latency.predict(deep, 8)).toBeGreaterThanOrEqual(36);
  });

  test('is forgotten within five batches when the other process ends', () => {
    const latency = model();
    for (let i = 0; i < 40; i++) latency.observe(i % 2 ? shallow : deep, 4, i % 2 ? 10 : 20);
    for (let i = 0; i < 5; i++) latency.observe(i % 2 ? shallow : deep, 4, i % 2 ? 5 : 10);
    expect(latency.slowdown).toBeCloseTo(1, 1);
  });

  test('fades while the engines rest, and what scatters with it', () => {
    const latency = model();
    for (let i = 0; i < 40; i++) latency.observe(shallow, 1, i % 5 === 0 ? 100 : 20);
    const before = latency.predict(shallow, 8);
    latency.rest(500);
    expect(latency.predict(shallow, 8)).toBeLessThan(before);
    latency.rest(20_000);
    expect(latency.slowdown).toBeCloseTo(1);
    expect(latency.spread).toBeCloseTo(1);
    // And one slow batch after the rest does not bring it back.
    latency.observe(shallow, 1, 20);
    expect(latency.slowdown).toBeCloseTo(1);
  });

  test('is not moved by a single stray batch', () => {
    const latency = model();
    latency.observe(shallow, 4, 500);
    latency.observe(shallow, 4, 5);
    expect(latency.slowdown).toBe(1);
    expect(latency.predict(shallow, 4)).toBe(5);
  });

  test('a machine that got faster than the table says is believed', () => {
    const latency = model();
    for (let i = 0; i < 200; i++) latency.observe(i % 2 ? shallow : deep, 8, i % 2 ? 6 : 12);
    expect(latency.predict(shallow, 8)).toBeCloseTo(6, 1);
  });
});

describe('delay', () => {
  test('is added to every batch alike, at the quantile', () => {
    const latency = model();
    for (let i = 0; i < 100; i++) latency.observe(shallow, 4, 5, i % 10 === 0 ? 8 : 1);
    expect(latency.delay).toBe(8);
    expect(latency.predict(shallow, 1)).toBe(2 + 8);
    expect(latency.predict(deep, 8)).toBe(18 + 8);
  });

  test('of a first batch on a cold server is not that of the next', () => {
    const latency = model();
    latency.observe(shallow, 4, 5, 40);
    expect(latency.delay).toBe(0);
  });

  test('is forgotten while the engines rest', () => {
    const latency = model();
    for (let i = 0; i < 64; i++) latency.observe(shallow, 4, 5, 20);
    latency.rest(20_000);
    expect(latency.predict(shallow, 4)).toBeCloseTo(5);
  });
});

describe('hold-up', () => {
  test('grows with the work, unlike the delay: others come for as long as that takes', () => {
    const latency = model();
    for (let i = 0; i < 200; i++) latency.observe(shallow, 4, 5, 1, 2.5);
    expect(latency.holdUp).toBe(0.5);
    expect(latency.delay).toBe(1);
    for (const times of ['typical', 'predict'] as const) {
      expect(latency[times](shallow, 8)).toBeCloseTo(9 * 1.5 + 1);
      expect(latency[times](shallow, 1)).toBeCloseTo(2 * 1.5 + 1);
    }
  });

  test('scatters by as many ms for a long batch as for a short one', () => {
    const latency = model();
    for (let i = 0; i < 200; i++) latency.observe(shallow, 4, 5, 0, i % 10 === 0 ? 10 : 2.5);
    expect(latency.predict(shallow, 8) - latency.typical(shallow, 8)).toBeCloseTo(7.5);
    expect(latency.predict(shallow, 1) - latency.typical(shallow, 1)).toBeCloseTo(7.5);
  });

  test('is no slowdown: the work takes no longer', () => {
    const latency = model();
    for (let i = 0; i < 100; i++) latency.observe(shallow, 4, 5, 0, 5);
    expect(latency.slowdown).toBe(1);
    expect(latency.present['FF']![4]).toBe(10);
  });

  test('is forgotten while the engines rest', () => {
    const latency = model();
    for (let i = 0; i < 64; i++) latency.observe(shallow, 4, 5, 0, 20);
    latency.rest(20_000);
    expect(latency.predict(shallow, 4)).toBeCloseTo(5);
  });
});

describe('other work of the core that an engine computes on', () => {
  test('holds up a batch for as long as it and its images cost', () => {
    const latency = model();
    latency.observeOverhead({ perBatch: 2, perImage: 3 });
    expect(latency.typical(shallow, 4)).toBe(5 + 2 + 4 * 3);
    expect(latency.predict(shallow, 4)).toBe(5 + 2 + 4 * 3);
  });

  test('is not counted again where the delay of batches shows it', () => {
    const latency = model();
    for (let i = 0; i < 256; i++) latency.observe(shallow, 4, 5, 20);
    latency.observeOverhead({ perBatch: 0, perImage: 3 });
    expect(latency.typical(shallow, 1)).toBeCloseTo(2 + 20);
    expect(latency.typical(shallow, 8)).toBeCloseTo(9 + 8 * 3);
  });
});

test('what an engine is occupied for is told apart from what a deadline must leave', () => {
  const latency = model();
  for (let i = 0; i < 256; i++) latency.observe(shallow, 4, i % 10 === 0 ? 15 : 5, i % 10);
  expect(latency.typical(shallow, 4)).toBeCloseTo(5 + 4);
  expect(latency.predict(shallow, 4)).toBeCloseTo(15 + 9);
});

describe('correction', () => {
  test('an entry that was measured wrongly is learned without touching the others', () => {
    const latency = model();
    for (let i = 0; i < 100; i++) {
      latency.observe(shallow, 8, 9);
      latency.observe(shallow, 4, 5);
      latency.observe(deep, 8, 27);
    }
    expect(latency.predict(deep, 8)).toBeGreaterThan(25);
    expect(latency.predict(deep, 8)).toBeLessThan(32);
    expect(latency.predict(shallow, 8) / latency.spread).toBeCloseTo(9, 1);
  });

  test('where one entry alone is used, the others do not come to look slow', () => {
    const latency = model();
    // Ever again twice as long at once, and back by and by: slowdown is behind half of the time.
    for (let i = 0; i < 6000; i++) latency.observe(shallow, 1, 2 * (1 + 0.9 ** (i % 20)));
    const ratio = latency.typical(shallow, 8) / latency.typical(shallow, 1);
    expect(ratio / (9 / 2)).toBeGreaterThan(0.8);
    expect(ratio / (9 / 2)).toBeLessThan(1.25);
  });

  test('times exactly as predicted change nothing', () => {
    const latency = model();
    for (let i = 0; i < 300; i++) latency.observe(deep, 4, 10);
    expect(latency.predict(deep, 4)).toBe(10);
  });
});

test('the table as it would be measured now holds slowdown and corrections, but no delay', () => {
  const latency = model();
  expect(latency.present).toEqual(latency.table);
  for (let i = 0; i < 40; i++) latency.observe(deep, 4, 15, 3);
  expect(latency.present['FF']![4]).toBeCloseTo(15, 0);
  expect(latency.present['TT']![8]).toBeCloseTo(9 * latency.slowdown);
  expect(latency.typical(deep, 4)).toBeCloseTo(15 + 3, 0);
});

describe('quantile', () => {
  test('about the wanted share of batches ends before its prediction', () => {
    for (const quantile of [0.5, 0.95]) {
      const latency = new MeasuredLatency({ TT: { 8: 9 } }, quantile);
      const random = new Random(1);
      let within = 0;
      for (let i = 0; i < 4000; i++) {
        const ms = 9 * Math.exp(0.1 * random.normal());
        if (i >= 500 && ms <= latency.predict(shallow, 8)) within++;
        latency.observe(shallow, 8, ms);
      }
      // The slowdown follows five noisy batches and so scatters itself.
      expect(Math.abs(within / 3500 - quantile)).toBeLessThan(0.02);
    }
  });
});
