import fc from 'fast-check';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { isUpright } from '../../src/preprocess/exif.ts';
import { JpegDecoder } from '../../src/preprocess/jpeg.ts';

type Entry = readonly [tag: number, type: number, count: number, value: number];
const MAKE: Entry = [0x010f, 2, 4, 0x41424300];
const orientation = (value: number): Entry => [0x0112, 3, 1, value];

/** The bytes of an APP1 segment with a directory of these entries. */
function exif(entries: readonly Entry[], isLittle: boolean): Buffer {
  const tiff = Buffer.alloc(10 + entries.length * 12 + 4);
  const short = (value: number, at: number) =>
    isLittle ? tiff.writeUInt16LE(value, at) : tiff.writeUInt16BE(value, at);
  const long = (value: number, at: number) =>
    isLittle ? tiff.writeUInt32LE(value, at) : tiff.writeUInt32BE(value, at);
  tiff.write(isLittle ? 'II' : 'MM', 'latin1');
  short(42, 2);
  long(8, 4);
  short(entries.length, 8);
  for (const [index, [tag, type, count, value]] of entries.entries()) {
    const at = 10 + index * 12;
    short(tag, at);
    short(type, at + 2);
    long(count, at + 4);
    if (type === 3) short(value, at + 8);
    else long(value, at + 8);
  }
  return Buffer.concat([Buffer.from('Exif\0\0'), tiff]);
}

const gradient = Buffer.from(Uint8Array.from({ length: 48 * 32 * 3 }, (_, i) => (i * 5) % 251));
const plain = await sharp(gradient, { raw: { width: 48, height: 32, channels: 3 } })
  .jpeg()
  .toBuffer();

/** Into a JPEG, before all else. */
function withSegment(segment: Buffer): Buffer {
  const head = Buffer.from([0xff, 0xe1, 0, 0]);
  head.writeUInt16BE(segment.length + 2, 2);
  return Buffer.concat([plain.subarray(0, 2), head, segment, plain.subarray(2)]);
}

describe('EXIF data say that a picture is upright', () => {
  it.each([true, false])('by orientation 1, or none (little endian: %s)', (isLittle) => {
    expect(isUpright(exif([MAKE, orientation(1)], isLittle))).toBe(true);
    expect(isUpright(exif([MAKE], isLittle))).toBe(true);
    expect(isUpright(exif([], isLittle))).toBe(true);
    for (const turned of [0, 2, 3, 4, 5, 6, 7, 8, 9]) {
      expect(isUpright(exif([MAKE, orientation(turned)], isLittle))).toBe(false);
    }
  });

  it('but not where they are odd', () => {
    const whole = exif([MAKE, orientation(1)], true);
    expect(isUpright(exif([[0x0112, 4, 1, 1]], true))).toBe(false);
    expect(isUpright(exif([[0x0112, 3, 2, 1]], true))).toBe(false);
    expect(isUpright(exif([orientation(1), orientation(6)], true))).toBe(false);
    expect(isUpright(Buffer.from('http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>'))).toBe(false);
    for (let length = 0; length < whole.length - 4; length++) {
      expect(isUpright(whole.subarray(0, length))).toBe(false);
    }
  });

  it('never against libvips, whatever the bytes are', async () => {
    const entry = fc.oneof(
      fc.constant(MAKE),
      fc.integer({ min: 0, max: 9 }).map(orientation),
      fc.tuple(fc.nat(0xffff), fc.nat(13), fc.nat(3), fc.nat(9)),
    );
    const segment = fc
      .tuple(fc.array(entry, { maxLength: 4 }), fc.boolean(), fc.nat(80), fc.nat(255), fc.boolean())
      .map(([entries, isLittle, at, byte, isBroken]) => {
        const bytes = exif(entries, isLittle);
        if (isBroken) bytes[6 + (at % (bytes.length - 6))] = byte;
        return bytes;
      });
    await fc.assert(
      fc.asyncProperty(segment, async (bytes) => {
        if (!isUpright(bytes)) return;
        const read = await sharp(withSegment(bytes)).metadata();
        expect(read.orientation ?? 1).toBe(1);
      }),
      { numRuns: 500 },
    );
  });

  it('and then cost no more than any other', () => {
    const decoder = new JpegDecoder({ width: 24, height: 24 });
    const pixels = () => new Uint8Array(24 * 24 * 3);
    const [bare, upright] = [pixels(), pixels()];
    expect(decoder.decode(plain, bare)).toBe('done');
    expect(decoder.decode(withSegment(exif([MAKE, orientation(1)], false)), upright)).toBe('done');
    expect(upright).toEqual(bare);
    const turned = withSegment(exif([orientation(6)], false));
    expect(decoder.decode(turned, pixels())).toBe('refused');
  });
});
