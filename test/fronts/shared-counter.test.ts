import { expect, it } from 'vitest';
import { SharedCounter } from '../../src/http/shared-counter.ts';

it('a count of several threads is the sum of theirs', () => {
  const counts = new BigInt64Array(new SharedArrayBuffer(16));
  const [one, other] = [new SharedCounter(counts, 0), new SharedCounter(counts, 1)];
  one.add(5);
  other.add(3);
  other.add(-1);
  expect([one.total, other.total]).toEqual([7, 7]);
});

it('what a lost thread has counted is taken back', () => {
  const counts = new BigInt64Array(new SharedArrayBuffer(16));
  const [one, lost] = [new SharedCounter(counts, 0), new SharedCounter(counts, 1)];
  one.add(5);
  lost.add(3);
  lost.clear();
  expect(one.total).toBe(5);
});
