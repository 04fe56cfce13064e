import { describe, expect, test } from 'vitest';
import { SharedCores } from '../src/shared-cores.ts';
import type { Overhead } from '../src/shared-cores.ts';

function measured(cores: number, workers: number, threadsEach = 1) {
  const machine = { cores, at: 0, cpu: 0, now: () => machine.at, cpuMs: () => machine.cpu };
  const learned: Overhead[] = [];
  const shared = new SharedCores(
    { workers, threadsEach },
    (overhead) => learned.push(overhead),
    machine,
  );
  // Started, rehearsed and timed: nothing of which an image is to blame for.
  machine.cpu = 5000;
  shared.ran(1, 3);
  /** Half a second in which so much was computed, in ms. */
  const halfSecond = (images: number, engineMs: number, cpuMs: number) => {
    machine.at += 500;
    machine.cpu += cpuMs;
    shared.ran(images, engineMs);
  };
  const timesAside = (ms: number) => {
    machine.cpu += ms;
    shared.ranAside(ms);
  };
  return { learned, halfSecond, timesAside };
}

/** So many ms an image, where a batch had so many: half of it is the batch's. */
const overhead = (ms: number, images: number) => ({
  perBatch: (ms * images) / 2,
  perImage: ms / 2,
});

describe('cores that engines share with the rest of the service', () => {
  test('an image costs what the process computes beyond the engines', () => {
    const { learned, halfSecond } = measured(1, 1);
    halfSecond(100, 200, 400);
    expect(learned).toEqual([overhead(2, 100)]);
  });

  test("what an engine is timed with meanwhile is no image's", () => {
    const { learned, halfSecond, timesAside } = measured(1, 1);
    timesAside(80);
    halfSecond(100, 200, 400);
    expect(learned).toEqual([overhead(2, 100)]);
  });

  test('of small batches, less of it is theirs', () => {
    const { learned, halfSecond } = measured(1, 1);
    for (let i = 0; i < 4; i++) halfSecond(8, 20, 36);
    expect(learned.at(-1)).toEqual(overhead(2, 8));
  });

  test('what is learned follows, halfway each time', () => {
    const { learned, halfSecond } = measured(1, 1);
    halfSecond(100, 200, 400);
    halfSecond(100, 200, 600);
    expect(learned).toEqual([overhead(2, 100), overhead(3, 100)]);
  });

  test('an engine of two threads is held up half as long by the same work', () => {
    const { learned, halfSecond } = measured(2, 1, 2);
    halfSecond(100, 200, 600);
    expect(learned).toEqual([overhead(1, 100)]);
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
    expect(learned).toEqual([overhead(0, 2)]);
  });
});
