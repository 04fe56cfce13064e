import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { headerOf } from '../../src/preprocess/header.ts';
import { JpegDecoder } from '../../src/preprocess/jpeg.ts';

/** A picture with edges, gradients and colours, but smoother than noise. */
function picture(width: number, height: number) {
  const pixels = Uint8Array.from({ length: width * height * 3 }, (_, index) => {
    const [x, y] = [Math.floor(index / 3) % width, Math.floor(index / 3 / width)];
    const wave = Math.sin((9 * x) / width + (index % 3)) * Math.cos((7 * y) / height);
    return 128 + 90 * wave + (x > width / 3 && y > height / 2 ? 30 : 0);
  });
  return sharp(pixels, { raw: { width, height, channels: 3 } });
}

describe('the quick path for JPEG', () => {
  it('takes baseline and progressive files up to 1.9 megapixels', async () => {
    const pixels = new Uint8Array(32 * 32 * 3);
    for (const options of [{}, { progressive: true }, { chromaSubsampling: '4:4:4' }]) {
      const file = await picture(1600, 1200).jpeg(options).toBuffer();
      expect(new JpegDecoder({ width: 32, height: 32 }).decode(file, pixels)).toBe('done');
    }
  });

  it('takes grey images', async () => {
    const file = await picture(64, 64).greyscale().toColourspace('b-w').jpeg().toBuffer();
    const pixels = new Uint8Array(32 * 32 * 3);
    expect(new JpegDecoder({ width: 32, height: 32 }).decode(file, pixels)).toBe('done');
    expect(pixels[0]).toBe(pixels[1]);
    expect(pixels[1]).toBe(pixels[2]);
  });

  it('refuses what needs more than pixels', async () => {
    const pixels = new Uint8Array(32 * 32 * 3);
    const decoder = new JpegDecoder({ width: 32, height: 32 });
    for (const file of [
      await picture(64, 64).withMetadata({ orientation: 6 }).jpeg().toBuffer(),
      await picture(64, 64).withIccProfile('p3').jpeg().toBuffer(),
      await picture(64, 64).toColourspace('cmyk').jpeg().toBuffer(),
      await picture(1601, 1200).jpeg().toBuffer(),
    ]) {
      expect(decoder.decode(file, pixels)).toBe('refused');
    }
  });

  it('refuses a file of thousands of scans, each of which would take as long as a photo', async () => {
    const file = await picture(64, 64).jpeg({ progressive: true }).toBuffer();
    const scan = file.subarray(file.lastIndexOf(Buffer.of(0xff, 0xda)), -2);
    const repeated = (times: number) =>
      Buffer.concat([file.subarray(0, -2), ...Array<Buffer>(times).fill(scan), file.subarray(-2)]);
    const decoder = new JpegDecoder({ width: 32, height: 32 });
    const pixels = new Uint8Array(32 * 32 * 3);
    expect(decoder.decode(repeated(1000), pixels)).toBe('refused');
    // libjpeg itself does not mind their number.
    expect(decoder.decode(repeated(10), pixels)).not.toBe('refused');
  });

  it('takes a file of as many segments as its size is looked for in, and no more', async () => {
    const file = await picture(64, 64).jpeg().toBuffer();
    const comment = Buffer.from('fffe00047879', 'hex');
    const commented = (times: number) =>
      Buffer.concat([file.subarray(0, 2), ...Array<Buffer>(times).fill(comment), file.subarray(2)]);
    const decoder = new JpegDecoder({ width: 32, height: 32 });
    const pixels = new Uint8Array(32 * 32 * 3);
    expect(headerOf(commented(900))).toMatchObject({ width: 64, height: 64 });
    expect(decoder.decode(commented(900), pixels)).toBe('done');
    expect(headerOf(commented(1100))).toBeNull();
    expect(decoder.decode(commented(1100), pixels)).toBe('refused');
  });

  it('says so when libjpeg complains', async () => {
    const file = await picture(64, 64).jpeg().toBuffer();
    const decoder = new JpegDecoder({ width: 32, height: 32 });
    const pixels = new Uint8Array(32 * 32 * 3);
    expect(decoder.decode(file.subarray(0, file.length >> 1), pixels)).toBe('damaged');
  });
});
