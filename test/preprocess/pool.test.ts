import sharp from 'sharp';
import { afterEach, describe, expect, test } from 'vitest';
import type * as Pool from '../../src/preprocess/pool.ts';

// Its threads are started from the built files.
const { DecoderPool } = (await import(
  new URL('../../dist/preprocess/pool.js', import.meta.url).href
)) as typeof Pool;

const noise = (size: number) =>
  sharp({
    create: {
      width: size,
      height: size,
      channels: 3,
      background: '#808080',
      noise: { type: 'gaussian', mean: 128, sigma: 30 },
    },
  });

let pool: Pool.DecoderPool | undefined;
afterEach(async () => {
  await pool?.release();
  pool = undefined;
});

/** Whether a file was decoded although no thread can be asked any more. */
async function isDecodedHere(side: number, file: Buffer, cores = 2, maxPixels = 1e6) {
  pool = await DecoderPool.start({ width: side, height: side, maxPixels }, 1, undefined, cores);
  await pool.release();
  const late = new Promise<false>((resolve) => setTimeout(() => resolve(false), 200));
  const decoded = pool
    .decode(0, [file])
    .then(([result]) => result !== undefined && 'pixels' in result);
  return Promise.race([decoded, late]);
}

describe('a picture for which a message to a thread would cost more than decoding', () => {
  test('is decoded where it is: a tiny JPEG for a small network', async () => {
    expect(await isDecodedHere(32, await noise(32).jpeg().toBuffer())).toBe(true);
  });

  test('but not beyond the limit of pixels', async () => {
    expect(await isDecodedHere(32, await noise(64).jpeg().toBuffer(), 2, 1024)).toBe(false);
  });

  test.each([
    ['larger pixels', 32, () => noise(200).jpeg().toBuffer()],
    ['another format', 32, () => noise(32).png().toBuffer()],
    ['a larger network', 224, () => noise(32).jpeg().toBuffer()],
    ['a broken file', 32, async () => (await noise(32).jpeg().toBuffer()).subarray(0, 400)],
    [
      'more bytes',
      32,
      async () => Buffer.concat([await noise(32).jpeg().toBuffer(), Buffer.alloc(9000)]),
    ],
  ] as const)('%s: a thread decodes it', async (_, side, make) => {
    expect(await isDecodedHere(side, await make())).toBe(false);
  });

  describe('on one core, where no thread works beside another', () => {
    test('is decoded where it is: a photo of half a thousand pixels a side', async () => {
      expect(await isDecodedHere(224, await noise(500).jpeg({ quality: 40 }).toBuffer(), 1)).toBe(
        true,
      );
    });

    test.each([
      ['larger pixels', () => noise(520).jpeg({ quality: 40 }).toBuffer()],
      ['many scans', () => noise(300).jpeg({ progressive: true }).toBuffer()],
      ['EXIF', () => noise(300).withMetadata({ orientation: 6 }).jpeg().toBuffer()],
      [
        'more bytes',
        async () => Buffer.concat([await noise(32).jpeg().toBuffer(), Buffer.alloc(131_072)]),
      ],
    ] as const)('%s: a thread decodes it', async (_, make) => {
      expect(await isDecodedHere(224, await make(), 1)).toBe(false);
    });
  });

  test.each([
    ['tiny', 48, 2],
    ['on one core', 300, 1],
  ])('has the pixels that a thread makes of it: %s', async (_, size, cores) => {
    pool = await DecoderPool.start({ width: 32, height: 32, maxPixels: 1e6 }, 1, undefined, cores);
    const file = await noise(size).jpeg().toBuffer();
    // What comes after the picture is nothing to libjpeg, but makes the file too long.
    const long = Buffer.concat([file, Buffer.alloc(131_072)]);
    const [here, there, again] = await pool.decode(0, [file, long, file]);
    expect(here).toMatchObject({ pixels: (there as { pixels: Uint8Array }).pixels });
    expect(again).toMatchObject({ pixels: (there as { pixels: Uint8Array }).pixels });
  });
});
