import { expect, test } from 'vitest';
import { depthserve } from '../src/scheduler/depthserve/depthserve.ts';
import { MeasuredLatency } from '../src/scheduler/latency.ts';
import { withPins } from '../src/scheduler/pin.ts';
import { RefusedError, Scheduler } from '../src/scheduler/scheduler.ts';
import { submit, submitAll } from '../bench/simulator/submit.ts';

/** One engine that takes as long as the test lets it; batches are noted as "skip:inputs". */
function scheduler({ maxBatch = 4 } = {}) {
  const batches: string[] = [];
  const finish: (() => void)[] = [];
  const tiers = [
    { skip: 'T', accuracy: 0.7, macs: 1 },
    { skip: 'F', accuracy: 0.8, macs: 2 },
  ];
  const pinnable = [...tiers, { skip: 'X', accuracy: 0.6, macs: 3 }];
  const row = { 1: 10, 4: 20 };
  const queue = new Scheduler<string, string>({
    policy: withPins(depthserve, pinnable),
    tiers: () => tiers,
    latency: new MeasuredLatency({ T: row, F: { 1: 20, 4: 40 }, X: row }),
    clock: { now: () => 0, at: () => () => {}, soon: () => {} },
    maxBatch,
    engine: {
      workers: 1,
      run: (_worker, tier, inputs) => {
        batches.push(`${tier.skip}:${inputs.join('')}`);
        return new Promise((resolve) => finish.push(() => resolve({ outputs: inputs, workMs: 0 })));
      },
    },
  });
  return { queue, batches, finishOne: () => finish.shift()?.() };
}

const needs = (deadline: number) => ({ arrivedAt: 0, deadline, minAccuracy: 0 });
const settled = () => new Promise(setImmediate);

test('the images of one request become one batch, not a first image alone', async () => {
  const { queue, batches } = scheduler();
  void submitAll(queue, ['a', 'b', 'c'], needs(1000));
  expect(batches).toEqual(['F:abc']);
});

test('more images than a batch holds are split, in order', async () => {
  const { queue, batches, finishOne } = scheduler({ maxBatch: 2 });
  const answers = submitAll(queue, ['a', 'b', 'c'], needs(1000));
  finishOne();
  await settled();
  finishOne();
  expect((await answers).map(({ output }) => output)).toEqual(['a', 'b', 'c']);
  expect(batches).toEqual(['F:ab', 'F:c']);
});

test('a request of which one image cannot be in time is refused as a whole', async () => {
  const { queue, batches } = scheduler({ maxBatch: 1 });
  await expect(submitAll(queue, ['a', 'b', 'c'], needs(25))).rejects.toThrow(RefusedError);
  expect(queue.queueLength).toBe(0);
  expect(batches).toEqual([]);
});

test('an abort takes a request out of the queue, and leaves the others', async () => {
  const { queue, batches, finishOne } = scheduler({ maxBatch: 1 });
  const client = new AbortController();
  const running = submit(queue, 'a', needs(1000));
  const gone = submitAll(queue, ['b', 'c'], needs(1000), client.signal);
  const stays = submit(queue, 'd', needs(1000));
  client.abort(new Error('gone'));
  await expect(gone).rejects.toThrow('gone');
  expect(queue.queueLength).toBe(1);
  finishOne();
  await running;
  await settled();
  finishOne();
  await stays;
  expect(batches).toEqual(['F:a', 'F:d']);
});

test('who was gone before submitting is not queued', async () => {
  const { queue, batches } = scheduler();
  await expect(
    submit(queue, 'a', needs(1000), AbortSignal.abort(new Error('gone'))),
  ).rejects.toThrow('gone');
  expect(batches).toEqual([]);
});

test('a pin decides the sub-network, even off the front, and pins are not mixed', async () => {
  const { queue, batches, finishOne } = scheduler();
  void submit(queue, 'a', needs(1000));
  void submit(queue, 'b', { ...needs(1000), skip: 'X' });
  void submit(queue, 'c', { ...needs(1000), skip: 'T' });
  void submit(queue, 'd', { ...needs(1000), skip: 'X' });
  void submit(queue, 'e', needs(1000));
  for (let batch = 0; batch < 4; batch++) {
    finishOne();
    await settled();
  }
  expect(batches).toEqual(['F:a', 'X:bd', 'T:c', 'F:e']);
});

test('a pin below the accuracy floor is refused', async () => {
  const { queue } = scheduler();
  const pinned = { arrivedAt: 0, deadline: 1000, minAccuracy: 0.75, skip: 'T' };
  await expect(submit(queue, 'a', pinned)).rejects.toThrow('accuracy-unavailable');
});
