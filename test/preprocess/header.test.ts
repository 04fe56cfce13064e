import fc from 'fast-check';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { headerOf } from '../../src/preprocess/header.ts';
import { CAT } from '../http/client.ts';

describe('the header of an image', () => {
  it.each([
    ['jpeg', {}],
    ['jpeg', { progressive: true }],
    ['png', {}],
    ['webp', {}],
    ['webp', { lossless: true }],
    ['webp', { alphaQuality: 50 }],
  ] as const)('tells the size (%s, %j)', async (format, options) => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 700 }),
        fc.integer({ min: 1, max: 700 }),
        async (width, height) => {
          const channels = 'alphaQuality' in options ? 4 : 3;
          const background = { r: 9, g: 9, b: 9, alpha: 0.5 };
          const file = await sharp({ create: { width, height, channels, background } })
            .withExif({ IFD0: { Copyright: 'x' } })
            .toFormat(format, options)
            .toBuffer();
          const pixels = width * height;
          const isCmyk = false;
          expect(headerOf(file)).toEqual({ format, width, height, pixels, isCmyk });
        },
      ),
      { numRuns: 8 },
    );
  });

  it('of what is no image, or ends too early, tells nothing', async () => {
    expect(headerOf(Buffer.from('no image at all, but some text'))).toBeNull();
    expect(headerOf(Buffer.alloc(0))).toBeNull();
    for (const format of ['jpeg', 'png', 'webp'] as const) {
      const file = await sharp(CAT).toFormat(format).toBuffer();
      for (let length = 0; length < 24; length++) {
        expect(headerOf(file.subarray(0, length))?.pixels ?? 1).toBeGreaterThan(0);
      }
    }
  });

  it('of rubbish after a good start is read to an end', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('ffd8ff', '89504e470d0a1a0a', '52494646000000005745425056503858'),
        fc.uint8Array({ maxLength: 300 }),
        (start, rest) => {
          const pixels = headerOf(Buffer.concat([Buffer.from(start, 'hex'), rest]))?.pixels;
          expect(pixels ?? 1).toBeGreaterThan(0);
        },
      ),
    );
  });
});
