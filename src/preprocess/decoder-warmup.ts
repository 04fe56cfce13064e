import { performance } from 'node:perf_hooks';
import sharp from 'sharp';
import { FORMATS, headerOf } from './header.ts';
import type { Header } from './header.ts';
import type { DecoderPool } from './pool.ts';

/** Edge of a photo as clients often send it, px. */
const EDGE = 256;
/**
 * Decodes by every thread: enough for times to settle, and for the code that is ours, which decodes
 * JPEGs, to be compiled. The first half is not observed.
 */
const DECODES = { jpeg: 12, png: 4, webp: 4 };

/**
 * Decodes pictures of every format on every thread, so that the first callers do not pay for cold
 * code, and so that it is known from the beginning what decoding takes.
 *
 * @param observe told of pictures, and the ms that they took, with messages and without, once code
 *   is warm.
 * @param signal stops between two pictures.
 * @returns one of them, a JPEG.
 */
export async function warmUpDecoders(
  decoders: Pick<DecoderPool, 'decode' | 'workers'>,
  observe: (header: Header, ms: number, workMs?: number) => void,
  signal: AbortSignal,
): Promise<Buffer> {
  const noise = { type: 'gaussian', mean: 128, sigma: 30 } as const;
  const size = { width: EDGE, height: EDGE, channels: 3 } as const;
  const pixels = await sharp({ create: { ...size, background: '#808080', noise } })
    // Photos are smoother than noise, and noise would take several times as long.
    .blur(2)
    .raw()
    .toBuffer();
  const picture = () => sharp(pixels, { raw: size });
  for (const format of FORMATS) {
    const file = await picture().toFormat(format).toBuffer();
    const header = headerOf(file)!;
    const decodeAll = async (worker: number) => {
      for (let i = 0; i < DECODES[format]; i++) {
        signal.throwIfAborted();
        const began = performance.now();
        const [decoded] = await decoders.decode(worker, [file]);
        // What cold code takes is no guide: budgets named to callers would be twice too large.
        const workMs = decoded && 'ms' in decoded ? decoded.ms : undefined;
        if (i >= DECODES[format] / 2) observe(header, performance.now() - began, workMs);
      }
    };
    await Promise.all(Array.from({ length: decoders.workers }, (_, worker) => decodeAll(worker)));
  }
  return picture().jpeg().toBuffer();
}
