import { describe, expect, test } from 'vitest';
import { ArrivalEstimator } from '../../src/scheduler/arrivals.ts';
import { constant, renewal, steps } from '../../bench/simulator/arrivals.ts';
import { Random } from '../../bench/simulator/random.ts';

function after(times: readonly number[], budget = 20) {
  const estimator = new ArrivalEstimator();
  for (const time of times) estimator.observe(time, budget);
  return estimator;
}

describe('what is expected of arrivals', () => {
  test('nothing, at first', () => {
    expect(new ArrivalEstimator().forecast(5)).toMatchObject({ rate: 0, budgets: [] });
    expect(after([5]).forecast(5).rate).toBe(0);
  });

  test('the rate of a steady stream, soon', () => {
    const times = renewal(constant(1000), 1, 1000, new Random(1));
    expect(after(times).forecast(1000).rate).toBeGreaterThan(0.9);
    expect(after(times).forecast(1000).rate).toBeLessThan(1.1);
  });

  test('follows a step', () => {
    const times = renewal(steps([200, 1000], 10_000), 1, 10_000, new Random(1));
    expect(after(times).forecast(10_000).rate).toBeGreaterThan(0.8);
  });

  test('a short burst says much of the next second and little of the next minute', () => {
    const burst = Array.from({ length: 200 }, (_, index) => index / 2);
    const { rate, reach } = after(burst).forecast(1100);
    expect(rate).toBeGreaterThan(0.1);
    expect(reach!.find(({ ms }) => ms > 30_000)!.rate).toBeLessThan(0.01);
    expect(reach!.map(({ ms }) => ms)).toEqual(
      reach!.map(({ ms }) => ms).toSorted((a, b) => a - b),
    );
  });

  test('a long steady stream is expected to go on for as long as it was seen', () => {
    const times = Array.from({ length: 20_000 }, (_, index) => index * 10);
    for (const { ms, rate } of after(times).forecast(200_000).reach!) {
      // A stream that is not much older than the memory does not fill it.
      const filled = 1 - Math.exp(-200_000 / ms);
      expect(rate / (0.1 * filled)).toBeGreaterThan(0.98);
      expect(rate / (0.1 * filled)).toBeLessThan(1.02);
    }
  });

  test('fades while nothing comes', () => {
    const estimator = after(renewal(constant(1000), 1, 5000, new Random(1)));
    expect(estimator.forecast(15_000).rate).toBeLessThan(0.02);
  });

  test('tells bursts from a Poisson stream', () => {
    const dispersion = (cv2: number) =>
      after(renewal(constant(1000), cv2, 10_000, new Random(1))).forecast(10_000).dispersion;
    expect(dispersion(1)).toBeLessThan(1.6);
    expect(dispersion(8)).toBeGreaterThan(3);
  });

  test('takes other budgets than before for no burst', () => {
    const estimator = new ArrivalEstimator();
    const times = renewal(constant(200), 1, 70_000, new Random(1));
    for (const time of times) estimator.observe(time, time < 60_000 ? 60_000 : 40);
    expect(estimator.forecast(70_000).dispersion).toBeLessThan(1.6);
  });

  test('knows the budgets of late, in order', () => {
    const estimator = new ArrivalEstimator();
    for (let i = 0; i < 200; i++) estimator.observe(i, 1000 - i);
    const { budgets } = estimator.forecast(200);
    expect(budgets).toHaveLength(64);
    expect(budgets[0]).toBe(801);
    expect(budgets.at(-1)).toBe(864);
  });

  test('a pause of days is over at once', () => {
    const estimator = after([0, 1, 2, 3]);
    estimator.observe(1e9, 20);
    expect(estimator.forecast(1e9).rate).toBeLessThan(1e-3);
  });

  test('a clock that goes backwards breaks nothing', () => {
    const estimator = after([10, 5, 7, 20, 19]);
    expect(estimator.forecast(1).rate).toBeGreaterThanOrEqual(0);
  });
});
