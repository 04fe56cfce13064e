import { describe, expect, test } from 'vitest';
import { DecodeTimes } from '../../src/scheduler/decode.ts';

const jpeg = (pixels: number) => ({ format: 'jpeg', pixels });

describe('decode times', () => {
  test('a new server guesses by size', () => {
    const times = new DecodeTimes();
    expect(times.predict(jpeg(12e6))).toBeGreaterThan(times.predict(jpeg(1e6)));
  });

  test('learns what images of a size take', () => {
    const times = new DecodeTimes();
    for (let i = 0; i < 10; i++) times.observe(jpeg(224 * 224), 1.5);
    expect(times.predict(jpeg(224 * 224))).toBe(1.5);
  });

  test('predicts a high quantile, not the mean', () => {
    const times = new DecodeTimes();
    for (let i = 0; i < 64; i++) times.observe(jpeg(1e6), i % 8 === 0 ? 9 : 3);
    expect(times.predict(jpeg(1e6))).toBe(9);
  });

  test('an unknown size is taken from the nearest known, larger ones in proportion', () => {
    const times = new DecodeTimes();
    times.observe(jpeg(2 ** 16), 2);
    expect(times.predict(jpeg(2 ** 18))).toBe(8);
    expect(times.predict(jpeg(2 ** 10))).toBe(2);
  });

  test('formats are told apart', () => {
    const times = new DecodeTimes();
    times.observe(jpeg(1e6), 3);
    times.observe({ format: 'png', pixels: 1e6 }, 20);
    expect(times.predict(jpeg(1e6))).toBe(3);
    expect(times.predict({ format: 'png', pixels: 1e6 })).toBe(20);
  });
});
