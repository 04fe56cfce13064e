import sharp from 'sharp';
import type { Decoder } from './decode.ts';
import { FORMATS } from './header.ts';

/** Edge of a photo as clients often send it, px. */
const EDGE = 256;
/** Decodes of every format: enough for the code to be compiled and the times to settle. */
const DECODES = 24;

/**
 * Decodes pictures of every format, so that the first callers do not pay for cold code, and so
 * that it is known from the beginning what decoding takes.
 *
 * @param signal stops between two pictures.
 */
export async function warmUpDecoder(decode: Decoder, signal: AbortSignal): Promise<void> {
  const noise = { type: 'gaussian', mean: 128, sigma: 30 } as const;
  const picture = await sharp({
    create: { width: EDGE, height: EDGE, channels: 3, background: '#808080', noise },
  })
    // Photos are smoother than noise, and noise would take several times as long.
    .blur(2)
    .png()
    .toBuffer();
  for (const format of FORMATS) {
    const file = await sharp(picture).toFormat(format).toBuffer();
    for (let i = 0; i < DECODES; i++) {
      signal.throwIfAborted();
      await decode(file);
    }
  }
}
