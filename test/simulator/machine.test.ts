import { expect, test } from 'vitest';
import { VirtualClock } from '../../bench/simulator/clock.ts';
import { Cores, Machine, Thread } from '../../bench/simulator/machine.ts';

/** When each task ends that is started at `at` for `ms`, on so many cores. */
async function ends(count: number, tasks: readonly { at: number; ms: number }[]) {
  const clock = new VirtualClock();
  const cores = new Cores(clock, count);
  const ended: number[] = [];
  tasks.forEach(({ at, ms }, index) => {
    clock.at(at, () => {
      void cores.compute(ms).then(() => (ended[index] = clock.now()));
    });
  });
  await clock.run();
  return { ended, usedMs: cores.usedMs };
}

test('a task alone takes as long as it computes, however many cores there are', async () => {
  for (const count of [1, 4]) {
    expect(await ends(count, [{ at: 1, ms: 5 }])).toEqual({ ended: [6], usedMs: 5 });
  }
});

test('two on one core take turns: the shorter ends first, later than alone', async () => {
  const { ended, usedMs } = await ends(1, [
    { at: 0, ms: 10 },
    { at: 4, ms: 2 },
  ]);
  expect(ended[1]).toBeCloseTo(8);
  expect(ended[0]).toBeCloseTo(12);
  expect(usedMs).toBeCloseTo(12);
});

test('two on two cores do not hold each other up', async () => {
  const tasks = [
    { at: 0, ms: 10 },
    { at: 4, ms: 2 },
  ];
  expect((await ends(2, tasks)).ended).toEqual([10, 6]);
});

test('three on two cores get two thirds of a core each', async () => {
  const { ended } = await ends(2, [
    { at: 0, ms: 4 },
    { at: 0, ms: 4 },
    { at: 0, ms: 4 },
  ]);
  for (const at of ended) expect(at).toBeCloseTo(6);
});

test('a thread does one thing after another, though cores are free', async () => {
  const clock = new VirtualClock();
  const thread = new Thread(new Cores(clock, 4));
  const ended: number[] = [];
  clock.at(0, () => {
    for (const ms of [3, 2, 0, 1]) void thread.compute(ms).then(() => ended.push(clock.now()));
  });
  await clock.run();
  expect(ended).toEqual([3, 5, 5, 6]);
});

test('on one core, reading requests holds an engine up, which says how long it waited', async () => {
  const clock = new VirtualClock();
  const machine = new Machine({ cores: 1, readMs: 2, answerMs: 1, clientMs: 0 }, clock);
  let waitedMs = 0;
  clock.at(0, () => void machine.compute(10).then((ms) => (waitedMs = ms)));
  for (const at of [1, 2]) clock.at(at, () => void machine.read());
  await clock.run();
  expect(waitedMs).toBeCloseTo(4);
  expect(machine.cpuMs()).toBeCloseTo(14);
});

test('a request that comes while another is read waits unread, and that is seen', async () => {
  const clock = new VirtualClock();
  const machine = new Machine({ cores: 1, readMs: 30, answerMs: 1, clientMs: 0 }, clock);
  expect(machine.unreadMs).toBe(0);
  let unreadMs = 0;
  clock.at(0, () => void machine.read());
  clock.at(100, () => (unreadMs = machine.unreadMs));
  await clock.run();
  // Looked at every 10 ms: at 10 and 20 it was 20 and 10 late, at 0 and from 30 on it was not.
  expect(unreadMs).toBeCloseTo(20);
});
