// A burst: the same photo in ever larger batches, so that one sees depth give way.
import { Refused, askMany } from './api.js';

/** @import { Model } from './api.js' */

const LASTS_MS = 5000;
/** Browsers open six connections to one server. */
const CONNECTIONS = 6;
/** Images in one request, as the burst goes on. */
const SIZES = [1, 2, 4, 8, 16];

/**
 * @param {Model} model
 * @param {Blob} photo
 * @param {number} budgetMs
 * @param {(text: string) => void} tell
 */
export async function burst(model, photo, budgetMs, tell) {
  const pixels = await pixelsOf(photo, model.manifest.input);
  const started = performance.now();
  /** @type {Map<string, number>} */
  const answered = new Map();
  let refused = 0;
  const report = () => {
    const parts = [...answered].map(([skip, count]) => `${count} by ${skip}`);
    tell(`Images answered: ${parts.join(', ') || 'none'}. Requests refused: ${refused}.`);
  };

  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      for (;;) {
        const gone = performance.now() - started;
        if (gone >= LASTS_MS) return;
        const size = SIZES[Math.floor((gone / LASTS_MS) * SIZES.length)] ?? 1;
        try {
          for (const skip of await askMany(model, pixels, size, budgetMs)) {
            answered.set(skip, (answered.get(skip) ?? 0) + 1);
          }
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          refused++;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        report();
      }
    }),
  );
  report();
}

/**
 * The middle of the photo in the network's size, as RGB.
 *
 * @param {Blob} photo
 * @param {{ width: number, height: number }} size
 */
async function pixelsOf(photo, { width, height }) {
  const bitmap = await createImageBitmap(photo);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d');
  if (!context) throw new Error('This browser has no 2D canvas.');
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(width * height * 3);
  for (let pixel = 0; pixel < width * height; pixel++) {
    rgb.set(rgba.subarray(pixel * 4, pixel * 4 + 3), pixel * 3);
  }
  return rgb;
}
