import { expect, test } from 'vitest';
import { summary, verdicts } from '../../bench/policies/table.ts';

test.each([
  [3, 4.3],
  [10, 2.262],
  [11, 2.228],
  [31, 2.042],
])('the interval of %d seeds is that of Student’s t, %f', (seeds, quantile) => {
  const record = (policy: string, seed: number, delivered: number) => {
    const cell = { table: 'small', load: 1, cv2: 1, trace: null };
    return { ...cell, policy, seed, attainment: 1, accuracy: delivered, delivered };
  };
  // Leads of 0, 0.01, 0.02, ... whose variance is n (n + 1) / 12 times 0.0001.
  const records = Array.from({ length: seeds }, (_, seed) => [
    record('depthserve', seed, 0.5 + seed / 100),
    record('rival', seed, 0.5),
  ]).flat();
  const [verdict] = verdicts(records, new Map([['small', 0.4]]));
  const deviation = 0.01 * Math.sqrt((seeds * (seeds + 1)) / 12 / seeds);
  expect(Math.abs(verdict!.interval / deviation - quantile)).toBeLessThan(0.01);
});

test('a share of the bound is counted as it is, not as it is rounded in the table', () => {
  const record = (load: number, policy: string, delivered: number) => {
    const cell = { table: 'small', load, cv2: 1, trace: null, jitter: 0 };
    return { ...cell, policy, seed: 1, attainment: 0.9, accuracy: delivered, delivered };
  };
  const cell = (load: number, delivered: number) => [
    record(load, 'depthserve', delivered),
    record(load, 'rival', 0.1),
    record(load, 'clairvoyant-bound', 1),
  ];
  const records = [...cell(1, 0.96), ...cell(1.3, 0.9499), ...cell(2, 0.9)];
  expect(summary(verdicts(records, new Map([['small', 0.4]])))).toContain(
    "at least 92 % of the bound's goodput: 2 of 3 cells, 95 %: 1 of 3",
  );
});
