import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Resizer, scaledSize } from '../../src/preprocess/resize.ts';
import type { Frame, Size } from '../../src/preprocess/resize.ts';

/** Numbers that look random, always the same. */
const picture = ({ width, height }: Size) =>
  Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7919 + ((i * i) >> 5)) % 256);

const bilinear = (x: number) => Math.max(0, 1 - x);
const bicubic = (x: number) => {
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
};

/** One edge of the picture in plain arithmetic: every output position, a mean of all input positions. */
function along(values: readonly number[], scaled: number, to: number, filter: typeof bilinear) {
  const scale = values.length / scaled;
  const skipped = Math.floor((scaled - to) / 2);
  return Array.from({ length: to }, (_, i) => {
    const centre = (skipped + i + 0.5) * scale;
    const weights = values.map((__, at) =>
      filter(Math.abs(at + 0.5 - centre) / Math.max(1, scale)),
    );
    const sum = weights.reduce((a, b) => a + b, 0);
    const mean = values.reduce((total, value, at) => total + value * weights[at]!, 0) / sum;
    return Math.min(255, Math.max(0, Math.round(mean)));
  });
}

function plainly(pixels: Uint8Array, from: Size, frame: Frame): number[] {
  const scaled = scaledSize(from, frame);
  const filter = frame.interpolation === 'bicubic' ? bicubic : bilinear;
  const result: number[] = [];
  for (let channel = 0; channel < 3; channel++) {
    const rows = Array.from({ length: from.height }, (_, y) => {
      const row = Array.from(
        { length: from.width },
        (__, x) => pixels[(y * from.width + x) * 3 + channel]!,
      );
      return along(row, scaled.width, frame.width, filter);
    });
    for (let x = 0; x < frame.width; x++) {
      const column = rows.map((row) => row[x]!);
      along(column, scaled.height, frame.height, filter).forEach((value, y) => {
        result[(y * frame.width + x) * 3 + channel] = value;
      });
    }
  }
  return result;
}

const edge = (max: number) => fc.integer({ min: 1, max });

describe('resizing', () => {
  it('is what plain arithmetic says, within two grey levels, for any sizes and rules', () => {
    const resizer = new Resizer();
    const size = fc.record({ width: edge(70), height: edge(70) });
    const rule = fc.record({
      width: edge(40),
      height: edge(40),
      resize: fc.constantFrom('cover' as const, 'stretch' as const),
      interpolation: fc.constantFrom('bilinear' as const, 'bicubic' as const),
      centre: fc.constantFrom(1, 0.875),
    });
    fc.assert(
      fc.property(size, rule, fc.boolean(), (from, frame, inPlace) => {
        const pixels = picture(from);
        const to = new Uint8Array(frame.width * frame.height * 3);
        const given = inPlace ? resizer.room(pixels.length) : pixels;
        given.set(pixels);
        resizer.resize(given, from, to, frame);
        const wanted = plainly(pixels, from, frame);
        // Weights have 14 bits, and each of the two passes rounds.
        const worst = to.reduce((max, value, i) => Math.max(max, Math.abs(value - wanted[i]!)), 0);
        expect(worst).toBeLessThanOrEqual(2);
      }),
    );
  });

  it('leaves the pixels alone where the size is right', () => {
    const size = { width: 9, height: 5 };
    const to = new Uint8Array(9 * 5 * 3);
    new Resizer().resize(picture(size), size, to, size);
    expect(to).toEqual(picture(size));
  });

  it('makes the same of a copy that shows only the middle, if that is more than filters reach', () => {
    const [size, shown] = [{ width: 12, height: 601 }, 101];
    const frame = { width: 16, height: 16, interpolation: 'bicubic' } as const;
    const [whole, part] = [new Uint8Array(16 * 16 * 3), new Uint8Array(16 * 16 * 3)];
    const pixels = picture(size);
    const middle = pixels.subarray(250 * 12 * 3, 351 * 12 * 3);
    new Resizer().resize(pixels, size, whole, frame);
    const original = { ...size, shown: shown / 601 };
    new Resizer().resize(middle, { width: 12, height: shown }, part, frame, original);
    expect(part).toEqual(whole);
  });

  it('copies only those rows of a picture that it reads', () => {
    const resizer = new Resizer();
    const size = { width: 10, height: 400_000 };
    const to = new Uint8Array(8 * 8 * 3);
    resizer.resize(new Uint8Array(10 * 400_000 * 3).fill(77), size, to, { width: 8, height: 8 });
    expect([...new Set(to)]).toEqual([77]);
    expect(resizer.room(1).buffer.byteLength).toBeLessThan(1e6);
  });

  it('does not keep the memory that one huge picture needed', () => {
    const resizer = new Resizer();
    const size = { width: 4000, height: 2000 };
    const frame = { width: 8, height: 4 };
    const to = new Uint8Array(8 * 4 * 3);
    resizer.resize(new Uint8Array(4000 * 2000 * 3).fill(77), size, to, frame);
    expect([...new Set(to)]).toEqual([77]);
    expect(resizer.room(1).buffer.byteLength).toBeLessThan(1e6);
  });
});
