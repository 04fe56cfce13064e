import { describe, expect, test } from 'vitest';
import { DecodeQueue, DecodeTimes } from '../../src/scheduler/decode.ts';

const jpeg = (pixels: number) => ({ format: 'jpeg', pixels });

describe('decode times', () => {
  test('a new server guesses by size', () => {
    const times = new DecodeTimes();
    expect(times.predict(jpeg(12e6), 0.5)).toBeGreaterThan(times.predict(jpeg(1e6), 0.5));
  });

  test('learns what images of a size take', () => {
    const times = new DecodeTimes();
    for (let i = 0; i < 10; i++) times.observe(jpeg(224 * 224), 1.5, 0);
    expect(times.predict(jpeg(224 * 224), 0.5)).toBe(1.5);
  });

  test('predicts the quantile asked for', () => {
    const times = new DecodeTimes();
    for (let i = 0; i < 64; i++) times.observe(jpeg(1e6), i % 8 === 0 ? 9 : 3, 0);
    expect(times.predict(jpeg(1e6), 0.5)).toBe(3);
    expect(times.predict(jpeg(1e6), 0.95)).toBe(9);
  });

  test('an unknown size is taken from the nearest known, larger ones in proportion', () => {
    const times = new DecodeTimes();
    times.observe(jpeg(2 ** 16), 2, 0);
    expect(times.predict(jpeg(2 ** 18), 0.5)).toBe(8);
    expect(times.predict(jpeg(2 ** 10), 0.5)).toBe(2);
  });

  test('formats are told apart', () => {
    const times = new DecodeTimes();
    times.observe(jpeg(1e6), 3, 0);
    times.observe({ format: 'png', pixels: 1e6 }, 20, 0);
    expect(times.predict(jpeg(1e6), 0.5)).toBe(3);
    expect(times.predict({ format: 'png', pixels: 1e6 }, 0.5)).toBe(20);
  });

  test('of the last second only are a reason to refuse, and then the median', () => {
    const times = new DecodeTimes();
    expect(times.lately(jpeg(1e6), 0)).toBe(0);
    for (const [at, ms] of [[0, 90] as const, [800, 7] as const, [900, 3] as const]) {
      times.observe(jpeg(1e6), ms, at);
    }
    expect(times.lately(jpeg(1e6), 950)).toBe(7);
    expect(times.lately(jpeg(1e6), 1500)).toBe(3);
    expect(times.lately(jpeg(1e6), 1850)).toBe(3);
    expect(times.lately(jpeg(1e6), 5000)).toBe(0);
    expect(times.lately(jpeg(4e6), 950)).toBe(0);
    expect(times.lately({ format: 'png', pixels: 1e6 }, 950)).toBe(0);
  });
});

describe('whose image is decoded next', () => {
  const at0 = (decoders = 1) => new DecodeQueue(decoders, () => 0);
  /** Enters jobs of [ms, due] one after the other; in which order do they begin? */
  async function order(queue: DecodeQueue, jobs: readonly (readonly [number, number])[]) {
    const begun: number[] = [];
    const all = jobs.map(async ([ms, due], index) => {
      const done = await queue.enter(ms, due);
      begun.push(index);
      await Promise.resolve();
      done();
    });
    await Promise.all(all);
    return begun;
  }

  test('as many at a time as there are decoders', async () => {
    const queue = at0(2);
    const first = await queue.enter(5, 100);
    await queue.enter(5, 100);
    let begun = false;
    void queue.enter(5, 100).then(() => (begun = true));
    await new Promise(setImmediate);
    expect(begun).toBe(false);
    first();
    await new Promise(setImmediate);
    expect(begun).toBe(true);
  });

  test('the most urgent', async () => {
    expect(
      await order(at0(), [
        [1, 500],
        [1, 500],
        [1, 400],
        [1, 300],
      ]),
    ).toEqual([0, 3, 2, 1]);
  });

  test('but nobody is overtaken who would be late for it', async () => {
    expect(
      await order(at0(), [
        [10, 500],
        [10, 20],
        [10, 19],
      ]),
    ).toEqual([0, 1, 2]);
  });

  test('the wait is that of the place that an image would get', async () => {
    const queue = at0();
    expect(queue.waitMs(10, 20)).toBe(0);
    await queue.enter(10, 500);
    expect(queue.waitMs(10, 500)).toBe(5);
    void queue.enter(10, 100);
    expect(queue.waitMs(10, 50)).toBe(5);
    expect(queue.waitMs(10, 200)).toBe(15);
    // That one was overtaken, and has no time left to be overtaken once more.
    void queue.enter(60, 90);
    expect(queue.waitMs(30, 60)).toBe(75);
  });

  test('who goes away leaves its place', async () => {
    const queue = at0();
    const done = await queue.enter(10, 500);
    const client = new AbortController();
    const gone = queue.enter(10, 100, client.signal);
    client.abort(new Error('gone'));
    await expect(gone).rejects.toThrow('gone');
    expect(queue.waitMs(10, 500)).toBe(5);
    done();
    expect(queue.waitMs(10, 500)).toBe(0);
    await expect(queue.enter(10, 100, client.signal)).rejects.toThrow('gone');
  });
});
