import { performance } from 'node:perf_hooks';
import sharp from 'sharp';
import { FORMATS, headerOf } from './header.ts';
import type { Format, Header } from './header.ts';
import type { DecoderPool } from './pool.ts';

/** Edge of a photo as clients often send it, px. */
const EDGE = 256;
/** Decodes by every thread, each time: the code for JPEGs is ours, and is compiled meanwhile. */
const DECODES = { jpeg: 6, png: 2, webp: 2 };

/** One of every format. */
export type Pictures = Readonly<Record<Format, Buffer>>;

/** Draws them. */
export async function drawPictures(): Promise<Pictures> {
  const noise = { type: 'gaussian', mean: 128, sigma: 30 } as const;
  const size = { width: EDGE, height: EDGE, channels: 3 } as const;
  const pixels = await sharp({ create: { ...size, background: '#808080', noise } })
    // Photos are smoother than noise, and noise would take several times as long.
    .blur(2)
    .raw()
    .toBuffer();
  const as = (format: Format) => sharp(pixels, { raw: size }).toFormat(format).toBuffer();
  return { jpeg: await as('jpeg'), png: await as('png'), webp: await as('webp') };
}

/**
 * Has every thread decode pictures of every format: so that the first callers do not pay for cold
 * code; and again, when nothing else runs, so that it is known from the beginning what it takes.
 *
 * @param signal stops between two pictures.
 * @param observe told of pictures, and the ms that they took, with messages and without.
 */
export async function decodePictures(
  decoders: Pick<DecoderPool, 'decode' | 'workers'>,
  pictures: Pictures,
  signal: AbortSignal,
  observe?: (header: Header, ms: number, workMs?: number) => void,
): Promise<void> {
  for (const format of FORMATS) {
    const file = pictures[format];
    const header = headerOf(file)!;
    const decodeBy = async (worker: number) => {
      for (let i = 0; i < DECODES[format]; i++) {
        signal.throwIfAborted();
        const began = performance.now();
        const [decoded] = await decoders.decode(worker, [file]);
        const workMs = decoded && 'ms' in decoded ? decoded.ms : undefined;
        observe?.(header, performance.now() - began, workMs);
      }
    };
    await Promise.all(Array.from({ length: decoders.workers }, (_, worker) => decodeBy(worker)));
  }
}
