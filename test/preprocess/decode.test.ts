import sharp from 'sharp';
import { describe, expect, it, vi } from 'vitest';
import { createDecoder } from '../../src/preprocess/decode.ts';
import { Resizer } from '../../src/preprocess/resize.ts';
import { CAT } from '../http/client.ts';

const decodeInto = createDecoder({ height: 32, width: 32, maxPixels: 1_000_000 });

async function decode(file: Buffer): Promise<Uint8Array> {
  const pixels = new Uint8Array(32 * 32 * 3);
  await decodeInto(file, pixels);
  return pixels;
}

/** Left half red, right half blue. */
function redBlue(width: number, height: number) {
  const half = { width: width / 2, height, channels: 3 as const };
  return sharp({ create: { ...half, background: '#ff0000' } }).extend({
    right: width / 2,
    background: '#0000ff',
  });
}

const pixelAt = (pixels: Uint8Array, x: number, y: number) =>
  Array.from(pixels.subarray((y * 32 + x) * 3, (y * 32 + x) * 3 + 3));

describe('decoding', () => {
  it('keeps the pixels of an image that has the right size already', async () => {
    const raw = Uint8Array.from({ length: 32 * 32 * 3 }, (_, index) => (index * 7) % 256);
    const png = await sharp(raw, { raw: { width: 32, height: 32, channels: 3 } })
      .png()
      .toBuffer();
    expect(Array.from(await decode(png))).toEqual(Array.from(raw));
  });

  it('covers: the shorter side fits, the centre is cut out', async () => {
    const pixels = await decode(await redBlue(128, 32).png().toBuffer());
    expect(pixels).toHaveLength(32 * 32 * 3);
    expect(pixelAt(pixels, 0, 16)).toEqual([255, 0, 0]);
    expect(pixelAt(pixels, 31, 16)).toEqual([0, 0, 255]);
  });

  it('stretches, where the manifest says so: all of it is shown', async () => {
    const pixels = new Uint8Array(32 * 32 * 3);
    const decoder = createDecoder({ height: 32, width: 32, resize: 'stretch', maxPixels: 1e6 });
    await decoder(await redBlue(640, 16).png().toBuffer(), pixels);
    for (let x = 0; x < 15; x++) expect(pixelAt(pixels, x, 16)).toEqual([255, 0, 0]);
    for (let x = 17; x < 32; x++) expect(pixelAt(pixels, x, 16)).toEqual([0, 0, 255]);
  });

  it('keeps the middle, as much of it as the manifest says', async () => {
    const grey = sharp({ create: { width: 44, height: 44, channels: 3, background: '#808080' } });
    const framed = grey.extend({ top: 10, bottom: 10, left: 10, right: 10, background: '#ff0000' });
    const file = await framed.png().toBuffer();
    for (const [centre, corner] of [
      [1, [255, 0, 0]],
      [0.64, [128, 128, 128]],
    ] as const) {
      const pixels = new Uint8Array(32 * 32 * 3);
      await createDecoder({ height: 32, width: 32, centre, maxPixels: 1e6 })(file, pixels);
      expect(pixelAt(pixels, 0, 0)).toEqual(corner);
    }
  });

  it('turns photos upright as their EXIF orientation says', async () => {
    const upright = await redBlue(64, 64).png().toBuffer();
    const sideways = await sharp(upright)
      .rotate(90)
      .withMetadata({ orientation: 8 })
      .png()
      .toBuffer();
    const pixels = await decode(sideways);
    expect(pixelAt(pixels, 1, 16)).toEqual([255, 0, 0]);
    expect(pixelAt(pixels, 30, 16)).toEqual([0, 0, 255]);
  });

  it('lays transparency on white', async () => {
    const clear = sharp({
      create: { width: 40, height: 40, channels: 4, background: { r: 9, g: 9, b: 9, alpha: 0 } },
    });
    expect(pixelAt(await decode(await clear.png().toBuffer()), 16, 16)).toEqual([255, 255, 255]);
  });

  it('makes grey, 16-bit and CMYK images RGB with 8 bits', async () => {
    const grey = await sharp(CAT).greyscale().png().toBuffer();
    const [red, green, blue] = pixelAt(await decode(grey), 16, 16);
    expect(red).toBe(green);
    expect(green).toBe(blue);
    const deep = await sharp(CAT).toColourspace('rgb16').png().toBuffer();
    expect(await decode(deep)).toHaveLength(32 * 32 * 3);
    const printed = await sharp(CAT).toColourspace('cmyk').jpeg().toBuffer();
    expect(await decode(printed)).toHaveLength(32 * 32 * 3);
  });

  // Those with EXIF, a profile or inks are decoded by libvips instead of libjpeg-turbo alone.
  it.each([
    ['plain', sharp(CAT)],
    ['with EXIF', sharp(CAT).withMetadata({ orientation: 6 })],
    ['with a profile', sharp(CAT).withIccProfile('p3')],
    ['with inks', sharp(CAT).toColourspace('cmyk')],
  ])('says of a JPEG %s that it is damaged', async (_what, image) => {
    const whole = await image.jpeg().toBuffer();
    // The blocks from here to the end are missing.
    const damaged = Buffer.concat([
      whole.subarray(0, whole.length >> 1),
      Buffer.from('ffd9', 'hex'),
    ]);
    const pixels = new Uint8Array(32 * 32 * 3);
    expect(await decodeInto(whole, pixels)).toBeUndefined();
    expect(await decodeInto(damaged, pixels)).toContain('damaged');
  });

  // Where most damage shows: at the end of the scan, after libvips has looked for the last time.
  it.each([
    ['plain', sharp(CAT)],
    ['with EXIF', sharp(CAT).withMetadata({ orientation: 6 })],
    ['with a profile', sharp(CAT).withIccProfile('p3')],
  ])(
    'says of a JPEG %s that it is damaged, although all of its rows are there',
    async (_what, image) => {
      const whole = await image.resize(400, 300).jpeg().toBuffer();
      // Some bytes twice: data are left when the last block is decoded.
      const damaged = Buffer.concat([whole.subarray(0, -30), whole.subarray(-60)]);
      const pixels = new Uint8Array(32 * 32 * 3);
      expect(await decodeInto(whole, pixels)).toBeUndefined();
      expect(await decodeInto(damaged, pixels)).toContain('damaged');
    },
  );

  it('takes the first picture of an animation', async () => {
    const frames = Buffer.concat([
      await redBlue(64, 64).raw().toBuffer(),
      Buffer.alloc(64 * 64 * 3, 255),
    ]);
    const animated = await sharp(frames, {
      raw: { width: 64, height: 128, channels: 3, pageHeight: 64 },
    })
      .webp({ lossless: true })
      .toBuffer();
    expect(pixelAt(await decode(animated), 1, 1)).toEqual([255, 0, 0]);
  });

  // Its shorter side is not made smaller: a file of 100 kB would take 150 MB, and a copy of them.
  it.each([
    ['higher than wide', 100, 100_000, 1],
    ['wider than high', 100_000, 100, 1],
    ['to be turned', 100, 100_000, 6],
  ] as const)(
    'takes the middle only of a picture that is much longer than the network sees: %s',
    async (_what, width, height, orientation) => {
      const whole = Buffer.alloc(width * height * 3);
      for (let i = 0; i < whole.length; i++) {
        const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
        whole[i] = 128 + 60 * Math.sin(x / 11 + (i % 3)) + 60 * Math.cos(y / 13);
      }
      const image = sharp(whole, { raw: { width, height, channels: 3 } });
      const file = await image
        .withMetadata({ orientation })
        .png({ compressionLevel: 1 })
        .toBuffer();
      const resize = vi.spyOn(Resizer.prototype, 'resize');
      const pixels = new Uint8Array(32 * 32 * 3);
      await createDecoder({ height: 32, width: 32, maxPixels: 1e7 })(file, pixels);
      const decoded = resize.mock.calls[0]![0];
      resize.mockRestore();
      expect(decoded.length).toBeLessThan(100_000);

      const upright = sharp(file).autoOrient().raw();
      const { data, info } = await upright.toBuffer({ resolveWithObject: true });
      const wanted = new Uint8Array(pixels.length);
      new Resizer().resize(data, info, wanted, { width: 32, height: 32 });
      const apart = pixels.reduce((sum, value, i) => sum + Math.abs(value - wanted[i]!), 0);
      expect(apart / pixels.length).toBeLessThan(2);
    },
  );

  it('of such a picture that is stretched, takes all, with its longer side made smaller', async () => {
    const file = await redBlue(100_000, 100).png().toBuffer();
    const resize = vi.spyOn(Resizer.prototype, 'resize');
    const pixels = new Uint8Array(32 * 32 * 3);
    const frame = { height: 32, width: 32, resize: 'stretch' } as const;
    await createDecoder({ ...frame, maxPixels: 1e7 })(file, pixels);
    const decoded = resize.mock.calls[0]![0];
    resize.mockRestore();
    expect(decoded.length).toBeLessThan(100_000);
    expect(pixelAt(pixels, 0, 16)).toEqual([255, 0, 0]);
    expect(pixelAt(pixels, 31, 16)).toEqual([0, 0, 255]);
  });
});
