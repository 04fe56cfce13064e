import sharp from 'sharp';
import { ServeError } from '../errors.ts';
import { formatOf, headerOf } from './header.ts';
import { JpegDecoder } from './jpeg.ts';
import { Resizer } from './resize.ts';
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

/** Edge of a network's input, px, below which libvips' own shrinking differs from training's. */
const SMALL = 144;
/** By how much more than a small network needs libvips leaves: so much that it hardly shows. */
const MARGIN = 2.1;

/**
 * How libvips resizes: all the way, or to a margin above the size, and the rest exactly as in
 * training. The latter costs more, and matters for small inputs and for images hardly larger.
 */
function targetOf(file: Buffer, { width, height }: DecoderOptions) {
  const pixels = headerOf(file)?.pixels ?? 0;
  const isExact = Math.max(width, height) < SMALL || pixels <= 2 * width * height;
  const kernel = 'linear' as const;
  if (!isExact) return { width, height, options: { fit: 'cover' as const, kernel } };
  return {
    width: Math.ceil(MARGIN * width),
    height: Math.ceil(MARGIN * height),
    options: { fit: 'outside' as const, kernel, withoutEnlargement: true },
  };
}

/** Makes the function that turns an image file into the network's input. */
export function createDecoder(options: DecoderOptions): Decode {
  const jpeg = new JpegDecoder(options.width, options.height);
  const resizer = new Resizer();
  return async (file, pixels) => {
    const quick = formatOf(file) === 'jpeg' ? jpeg.decode(file, pixels) : 'refused';
    if (quick === 'done') return undefined;
    const { data, info } = await decode(file, options);
    resizer.cover(data, info.width, info.height, pixels, options.width, options.height);
    return quick === 'damaged'
      ? 'The file is damaged: parts of the image may be wrong.'
      : undefined;
  };
}

/**
 * Decodes a JPEG, PNG or WebP file to RGB by libvips, and turns it upright (EXIF). Grey becomes
 * RGB, transparency becomes white.
 *
 * @throws {ServeError} not-an-image, truncated-image, too-many-pixels
 */
async function decode(file: Buffer, options: DecoderOptions) {
  if (formatOf(file) === null) {
    throw new ServeError('not-an-image', 'The bytes are no JPEG, PNG or WebP file.');
  }
  const target = targetOf(file, options);
  try {
    return await sharp(file, { limitInputPixels: options.maxPixels, failOn: 'truncated' })
      .autoOrient()
      .resize(target.width, target.height, target.options)
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
  } catch (error) {
    throw explain(error, file, options);
  }
}

function explain(error: unknown, file: Buffer, options: DecoderOptions): ServeError {
  const message = error instanceof Error ? error.message : String(error);
  const cause = { cause: error };
  if (/pixel limit/i.test(message)) {
    const detail = `The image has more than ${options.maxPixels} pixels.`;
    return new ServeError('too-many-pixels', detail, {}, undefined, cause);
  }
  if (endsEarly(file, message)) {
    return new ServeError('truncated-image', 'The file ends too early.', {}, undefined, cause);
  }
  const detail = 'The file starts like an image, but cannot be decoded.';
  return new ServeError('not-an-image', detail, {}, undefined, cause);
}

/** libvips says so for JPEG only; PNG ends with an IEND chunk, and WebP tells its length. */
function endsEarly(file: Buffer, message: string): boolean {
  switch (formatOf(file)) {
    case 'png':
      return !file.subarray(-12).includes('IEND');
    case 'webp':
      return file.length < 12 || file.readUInt32LE(4) + 8 > file.length;
    default:
      return message.includes('premature end');
  }
}
