import { describe, expect, test } from 'vitest';
import {
  atRate,
  constant,
  parseTrace,
  ramp,
  renewal,
  requests,
  steps,
} from '../../bench/simulator/arrivals.ts';
import { Random } from '../../bench/simulator/random.ts';

const gaps = (times: readonly number[]) => times.slice(1).map((time, i) => time - times[i]!);
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

describe('synthetic arrivals', () => {
  test.each([1, 4, 8])('have the rate and the CV² asked for (%d)', (cv2) => {
    const between = gaps(renewal(constant(500), cv2, 60_000, new Random(3)));
    const average = mean(between);
    const variance = mean(between.map((gap) => (gap - average) ** 2));
    expect(average / 2).toBeGreaterThan(0.95);
    expect(average / 2).toBeLessThan(1.05);
    expect(variance / average ** 2 / cv2).toBeGreaterThan(0.85);
    expect(variance / average ** 2 / cv2).toBeLessThan(1.15);
  });

  test('steps take the rates in turn, each equally long', () => {
    const rate = steps([100, 400, 0], 3000);
    expect([0, 999, 1000, 2500, 3000].map(rate)).toEqual([100, 100, 400, 0, 0]);
    const times = renewal(rate, 1, 3000, new Random(1));
    const within = (from: number) => times.filter((t) => t >= from && t < from + 1000).length;
    expect(within(1000)).toBeGreaterThan(3 * within(0));
    expect(within(2000)).toBe(0);
  });

  test('a ramp goes straight from rate to rate', () => {
    expect([0, 500, 1000, 1500, 2000].map(ramp([100, 300, 0], 2000))).toEqual([
      100, 200, 300, 150, 0,
    ]);
  });

  test('the same seed gives the same arrivals, another seed others', () => {
    const times = (seed: number) => renewal(constant(100), 4, 5000, new Random(seed));
    expect(times(1)).toEqual(times(1));
    expect(times(1)).not.toEqual(times(2));
  });

  test('budgets and floors are drawn from those listed', () => {
    const all = requests(Array(300).fill(0), [15, 40], [0, 0.9], new Random(1));
    expect(new Set(all.map(({ budget }) => budget))).toEqual(new Set([15, 40]));
    expect(new Set(all.map(({ minAccuracy }) => minAccuracy))).toEqual(new Set([0, 0.9]));
  });
});

describe('a trace', () => {
  test('is read as seconds and replayed faster by its scale', () => {
    expect(parseTrace('arrival_s\n0\n0.5\n2\n', 10)).toEqual([0, 50, 200]);
  });

  test('may have other columns, Windows line ends and disorder', () => {
    expect(parseTrace('id,arrival_s\r\na,2\r\nb,1\r\n')).toEqual([1000, 2000]);
  });

  test('is brought to a mean rate', () => {
    expect(atRate([3000, 4000, 8000, 13_000], 2)).toEqual([0, 200, 1000, 2000]);
    expect(atRate([7], 2)).toEqual([0]);
  });

  test('says which line is wrong', () => {
    expect(() => parseTrace('arrival_s\n0\nx\n')).toThrow('line 3 of the trace is not a time: x');
    expect(() => parseTrace('time\n0\n')).toThrow('arrival_s');
    expect(() => parseTrace('arrival_s\n')).toThrow('no arrivals');
  });
});
