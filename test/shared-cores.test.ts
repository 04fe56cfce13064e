import { describe, expect, test } from 'vitest';
import { SharedCores } from '../src/shared-cores.ts';

function measured(cores: number, workers: number, threadsEach = 1) {
  const machine = { cores, at: 0, cpu: 0, now: () => machine.at, cpuMs: () => machine.cpu };
  const learned: number[] = [];
  const shared = new SharedCores({ workers, threadsEach }, (ms) => learned.push(ms), machine);
  // Started, rehearsed and timed: nothing of which an image is to blame for.
  machine.cpu = 5000;
  shared.ran(1, 3);
  /** Half a second in which so much was computed, in ms. */
  const halfSecond = (images: number, engineMs: number, cpuMs: number) => {
    machine.at += 500;
    machine.cpu += cpuMs;
    shared.ran(images, engineMs);
  };
  return { learned, halfSecond };
}

describe('cores that engines share with the rest of the service', () => {
  test('an image costs what the process computes beyond the engines', () => {
    const { learned, halfSecond } = measured(1, 1);
    halfSecond(100, 200, 400);
    expect(learned).toEqual([2]);
  });

  test('what is learned follows, halfway each time', () => {
    const { learned, halfSecond } = measured(1, 1);
    halfSecond(100, 200, 400);
    halfSecond(100, 200, 600);
    expect(learned).toEqual([2, 3]);
  });

  test('an engine of two threads is held up half as long by the same work', () => {
    const { learned, halfSecond } = measured(2, 1, 2);
    halfSecond(100, 200, 600);
    expect(learned).toEqual([1]);
  });

  test('nothing is learned where a core is left, on a GPU, or of a few images', () => {
    for (const { learned, halfSecond } of [measured(2, 1), measured(1, 1, 0)]) {
      halfSecond(100, 200, 400);
      expect(learned).toEqual([]);
    }
    const { learned, halfSecond } = measured(1, 1);
    halfSecond(15, 20, 400);
    expect(learned).toEqual([]);
  });

  test('where images are few and far between, no core is short of time', () => {
    const { learned, halfSecond } = measured(1, 1);
    for (let i = 0; i < 8; i++) halfSecond(2, 20, 400);
    expect(learned).toEqual([0]);
  });
});
