import { describe, expect, test } from 'vitest';
import { DecodeTimes } from '../../src/pipeline/decode-times.ts';

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

  test('before its size is known, an image is judged by its format, or by all', () => {
    const times = new DecodeTimes();
    for (let i = 0; i < 10; i++) times.observe(jpeg(1e4), 2, 0);
    for (let i = 0; i < 10; i++) times.observe({ format: 'webp', pixels: 1e4 }, 30, 0);
    expect(times.ofAny(0.95, 'jpeg')).toBe(2);
    expect(times.ofAny(0.95, 'webp')).toBe(30);
    expect(times.ofAny(0.95, 'png')).toBe(30);
    expect(times.ofAny(0.95)).toBe(30);
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
