import type { Policy, View, Waiting } from '../../../src/scheduler/policy.ts';
import { admitAll, run } from './common.ts';

/**
 * After BentoML's adaptive batching: first come, first served on one model (the most accurate); a
 * line `time = a n + b` through what batches took; the head is rejected when the line says that
 * the batch would end after its budget.
 */
export const bentoml: Policy = {
  name: 'bentoml',
  admit: admitAll,
  decide(view) {
    const tier = view.tiers.at(-1)!;
    const { a, b } = line(view);
    const queue = [...view.queue].sort((x, y) => x.arrivedAt - y.arrivedAt || x.id - y.id);
    const expire: Waiting[] = [];
    while (queue.length > 0) {
      const size = Math.min(queue.length, view.maxBatch);
      if (view.now + a * size + b <= queue[0]!.deadline) break;
      expire.push(queue.shift()!);
    }
    return run(expire, queue.slice(0, view.maxBatch), tier);
  },
};

/** Least squares through the present times of the powers of two up to the largest batch. */
function line(view: View): { a: number; b: number } {
  const points: [number, number][] = [];
  for (let size = 1; size <= view.maxBatch; size *= 2) {
    points.push([size, view.latency.predict(view.tiers.at(-1)!, size)]);
  }
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const x = mean(points.map(([size]) => size));
  const y = mean(points.map(([, ms]) => ms));
  const sxx = points.reduce((sum, [size]) => sum + (size - x) ** 2, 0);
  const sxy = points.reduce((sum, [size, ms]) => sum + (size - x) * (ms - y), 0);
  const a = sxx === 0 ? 0 : sxy / sxx;
  return { a, b: y - a * x };
}
