import { performance } from 'node:perf_hooks';
import sharp from 'sharp';
import { ServeError } from '../errors.ts';
import { formatOf } from './header.ts';

/** RGB pixels, uint8 `[height, width, 3]`. */
export type Pixels = Uint8Array;

export interface DecoderOptions {
  /** px */
  readonly height: number;
  /** px */
  readonly width: number;
  /** Largest image that is decoded, width x height. */
  readonly maxPixels: number;
  /** Told of every image decoded, and how long it took in ms. */
  readonly onDecoded?: (file: Buffer, ms: number) => void;
}

export type Decoder = (file: Buffer) => Promise<Pixels>;

// Only the formats that we promise: every further loader is attack surface.
sharp.block({ operation: ['VipsForeignLoad'] });
sharp.unblock({
  operation: ['VipsForeignLoadJpegBuffer', 'VipsForeignLoadPngBuffer', 'VipsForeignLoadWebpBuffer'],
});
// One libvips thread per image: parallelism comes from decoding several images at once.
sharp.concurrency(1);
// Every upload is another image, so cached operations would never be used again.
sharp.cache(false);

/** Makes the function that turns an image file into the network's input. */
export function createDecoder(options: DecoderOptions): Decoder {
  return async (file) => {
    const started = performance.now();
    const pixels = await decode(file, options);
    options.onDecoded?.(file, performance.now() - started);
    return pixels;
  };
}

/**
 * Decodes a JPEG, PNG or WebP file, turns it upright (EXIF), and applies the manifest's resize
 * rule `cover`: the shorter side fits, the centre is cut out. Grey becomes RGB, transparency
 * becomes white.
 *
 * @throws {ServeError} not-an-image, truncated-image, too-many-pixels
 */
async function decode(file: Buffer, options: DecoderOptions): Promise<Pixels> {
  if (formatOf(file) === null) {
    throw new ServeError('not-an-image', 'The bytes are no JPEG, PNG or WebP file.');
  }
  try {
    return await sharp(file, { limitInputPixels: options.maxPixels, failOn: 'truncated' })
      .autoOrient()
      // Bilinear, as in training; libvips widens the filter when it shrinks.
      .resize(options.width, options.height, { fit: 'cover', kernel: 'linear' })
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer();
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
