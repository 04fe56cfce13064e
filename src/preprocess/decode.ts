import sharp from 'sharp';
import type { FailOnOptions, Sharp } from 'sharp';
import { ServeError } from '../errors.ts';
import { formatOf, headerOf } from './header.ts';
import type { Header } from './header.ts';
import { JpegDecoder, LIMITS, MAX_PIXELS, MAX_WHOLE } from './jpeg.ts';
import { Resizer } from './resize.ts';
import type { Original, Size } from './resize.ts';
import type { DecoderOptions } from './decoder-messages.ts';

/**
 * Writes RGB pixels, uint8 `[height, width, 3]`.
 *
 * @returns what is wrong with a file that could be decoded all the same.
 * @throws {ServeError} not-an-image, truncated-image, too-many-pixels
 */
export type Decode = (file: Buffer, pixels: Uint8Array) => Promise<string | undefined>;

// Only the formats that we promise: every further loader is attack surface.
sharp.block({ operation: ['VipsForeignLoad'] });
sharp.unblock({
  operation: ['VipsForeignLoadJpegBuffer', 'VipsForeignLoadPngBuffer', 'VipsForeignLoadWebpBuffer'],
});
// One libvips thread per image: parallelism comes from decoding several images at once.
sharp.concurrency(1);
// Every upload is another image, so cached operations would never be used again.
sharp.cache(false);

/**
 * How much more than the network needs libvips leaves of a large picture, for our own resizing: so
 * much that what libvips did does not show, even where every pixel differs (a dithered PNG), nor that
 * decoding less of a JPEG rounds its size up.
 */
const MARGIN = 3;
/** Of a JPEG whose size is not rounded, as that of most cameras: decoding takes a third of the time. */
const MARGIN_OF_EVEN = 1.5;
/** libjpeg decodes eighths of a picture. */
const isEven = ({ format, width, height }: Header) =>
  format === 'jpeg' && width % 8 === 0 && height % 8 === 0;
/** Bytes. A picture that stays larger than this is so long that the network sees only its middle. */
const MAX_COPIED = 16 * 1024 * 1024;
/** px on either side that filters may reach even where a few are all that the network sees. */
const REACH = 16;

/** Makes the function that turns an image file into the network's input. */
export function createDecoder(options: DecoderOptions): Decode {
  const resizer = new Resizer();
  const limits = { ...LIMITS, pixels: Math.min(LIMITS.pixels, options.maxPixels) };
  const jpeg = new JpegDecoder(options, limits, resizer);
  return async (file, pixels) => {
    const header = headerOf(file);
    const quick = header?.format === 'jpeg' ? jpeg.decode(file, pixels) : 'refused';
    if (quick === 'done') return undefined;
    const isBroken = quick === 'damaged' || jpeg.isDamaged(file);
    const { data, info, original, isDamaged } = await decode(file, header, options, isBroken);
    resizer.resize(data, info, pixels, options, upright(original, info));
    return isDamaged ? 'The file is damaged: parts of the image may be wrong.' : undefined;
  };
}

/** The size of the whole picture, turned as the smaller copy is. */
function upright(original: Original, copy: Size): Original {
  const { width, height } = original;
  const isTurned = width > height !== copy.width > copy.height && width !== height;
  return isTurned ? { ...original, width: height, height: width } : original;
}

/**
 * Decodes a JPEG, PNG or WebP file to RGB by libvips, and turns it upright (EXIF). Colour profiles
 * are followed, grey becomes RGB, transparency becomes white. Large pictures come smaller.
 *
 * A JPEG that libjpeg complains about is decoded all the same; of one that comes smaller, libvips
 * seldom tells.
 *
 * @throws {ServeError} not-an-image, truncated-image, too-many-pixels
 */
async function decode(
  file: Buffer,
  header: Header | null,
  options: DecoderOptions,
  isDamaged: boolean,
) {
  if (formatOf(file) === null) {
    throw new ServeError('not-an-image', 'The bytes are no JPEG, PNG or WebP file.');
  }
  const isStrict = header?.format === 'jpeg' && !isDamaged;
  try {
    return { ...(await rgb(file, header, options, isStrict ? 'warning' : 'truncated')), isDamaged };
  } catch (error) {
    const explained = explain(error, file, options);
    if (!isStrict || explained.code !== 'not-an-image') throw explained;
    return decode(file, header, options, true);
  }
}

async function rgb(
  file: Buffer,
  header: Header | null,
  options: DecoderOptions,
  failOn: FailOnOptions,
): Promise<Raw & { original: Original }> {
  const whole = sharp(file, { limitInputPixels: options.maxPixels, failOn });
  const { width, height } = header ?? (await whole.metadata());
  const middle = middleOf({ width, height }, options);
  // Cut before it is turned, which takes all of a picture into memory.
  const seen = middle ? whole.extract(middle) : whole;
  const image = smaller(seen, header, options).autoOrient().flatten({ background: '#ffffff' });
  const shown = middle ? Math.min(middle.width / width, middle.height / height) : 1;
  const original = { width, height, shown };
  // Inks without a profile: libvips would guess one, training takes them for plain complements.
  if (header?.isCmyk && !(await image.metadata()).hasProfile) {
    const inks = await raw(image.pipelineColourspace('cmyk').toColourspace('cmyk'));
    return { ...rgbOf(inks), original };
  }
  return { ...(await raw(image.toColourspace('srgb'))), original };
}

/**
 * Of a picture that is much longer than wide, or wider than high: the part in its middle that the
 * network sees, and as much again, since filters reach further. All of it would stay large, since a
 * shorter side that is short already is not made smaller.
 */
function middleOf(size: Size, { width, height, centre = 1, resize }: DecoderOptions) {
  const [short, long] = [Math.min(size.width, size.height), Math.max(size.width, size.height)];
  const scale = Math.min(1, (MARGIN * Math.max(width, height)) / (centre * short));
  // No more is seen, whether it has to be turned or not.
  const seen = short * Math.max(width / height, height / width);
  const cut = Math.floor(long / 2 - seen - REACH);
  const isSmall = 3 * short * long * scale ** 2 <= MAX_COPIED;
  if (resize === 'stretch' || isSmall || cut <= 0) return null;
  return size.width === long
    ? { left: cut, top: 0, width: long - 2 * cut, height: short }
    : { left: 0, top: cut, width: short, height: long - 2 * cut };
}

/** Large pictures are made smaller: JPEG while it is decoded, by far the quickest. */
function smaller(image: Sharp, header: Header | null, options: DecoderOptions): Sharp {
  if (header && header.pixels <= (header.format === 'jpeg' ? MAX_WHOLE : MAX_PIXELS)) return image;
  const { width, height, centre = 1, resize } = options;
  const margin = (header && isEven(header) ? MARGIN_OF_EVEN : MARGIN) / centre;
  return image.resize(Math.ceil(margin * width), Math.ceil(margin * height), {
    fit: resize === 'stretch' ? 'fill' : 'outside',
    kernel: 'cubic',
    withoutEnlargement: true,
    // A WebP of which less is decoded comes shifted.
    fastShrinkOnLoad: header?.format !== 'webp',
  });
}

const raw = (image: Sharp) => image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });

type Raw = Awaited<ReturnType<typeof raw>>;

/** Light that is left by four inks, as Pillow computes it. */
function rgbOf({ data, info }: Raw): Raw {
  const rgb = Buffer.alloc((data.length / 4) * 3);
  for (let ink = 0, out = 0; ink < data.length; ink += 4) {
    const paper = 255 - data[ink + 3]!;
    for (let channel = 0; channel < 3; channel++) {
      rgb[out++] = Math.max(0, paper - Math.round((data[ink + channel]! * paper) / 255));
    }
  }
  return { data: rgb, info };
}

function explain(error: unknown, file: Buffer, options: DecoderOptions): ServeError {
  const message = error instanceof Error ? error.message : String(error);
  const cause = { cause: error };
  if (/pixel limit/i.test(message)) {
    const detail = `The image has more than ${options.maxPixels} pixels.`;
    return new ServeError('too-many-pixels', detail, cause);
  }
  if (endsEarly(file, message)) {
    return new ServeError('truncated-image', 'The file ends too early.', cause);
  }
  const detail = 'The file starts like an image, but cannot be decoded.';
  return new ServeError('not-an-image', detail, cause);
}

/** libvips says so for JPEG only; PNG ends with an IEND chunk, and WebP tells its length. */
function endsEarly(file: Buffer, message: string): boolean {
  switch (formatOf(file)) {
    case 'png':
      return !file.subarray(-12).includes('IEND');
    case 'webp':
      return file.length < 12 || file.readUInt32LE(4) + 8 > file.length;
    default:
      return message.includes('premature end of JPEG image');
  }
}
