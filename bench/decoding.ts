/**
 * What decoding costs: processor ms per image, all threads, from the file's bytes to the network's
 * input, by kind and size of the file.
 *
 *   npm run bench:decoding -- [--checkout . --checkout OTHER] [--edge 192] [--rounds 5]
 *
 * Checkouts must be built and take turns. docs/cost-of-a-request.md has what came of it.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import type { Sharp } from 'sharp';
import { median } from './median.ts';
import type * as Decoding from '../src/preprocess/decode.ts';

const { values } = parseArgs({
  options: {
    checkout: { type: 'string', multiple: true, default: ['.'] },
    /** Of the network's input, px. */
    edge: { type: 'string', default: '192' },
    rounds: { type: 'string', default: '5' },
  },
});

const PHOTO = 'models/cifar10/samples/cat.jpg';
const SIZES = [
  [256, 192],
  [341, 256],
  [640, 480],
  [1280, 960],
  [4000, 3000],
] as const;
const KINDS = {
  JPEG: (image: Sharp) => image.jpeg({ quality: 85 }),
  'JPEG with EXIF': (image: Sharp) =>
    image.withExif({ IFD0: { Make: 'Camera' } }).jpeg({ quality: 85 }),
  // withMetadata puts a profile in.
  'JPEG to be turned, with a profile': (image: Sharp) =>
    image.withMetadata({ orientation: 6 }).jpeg({ quality: 85 }),
  PNG: (image: Sharp) => image.png(),
  WebP: (image: Sharp) => image.webp(),
};
/** Processor ms that one measurement takes at least: its clock has steps of 1 ms or less. */
const LEAST_MS = 60;

const edge = Number(values.edge);
const pixels = new Uint8Array(edge * edge * 3);
const decoders = await Promise.all(
  values.checkout.map(async (folder) => {
    const url = pathToFileURL(resolve(folder, 'dist/preprocess/decode.js')).href;
    const { createDecoder } = (await import(url)) as typeof Decoding;
    return createDecoder({ width: edge, height: edge, maxPixels: 1e8 });
  }),
);

const processorMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

async function costMs(decode: Decoding.Decode, file: Buffer): Promise<number> {
  const began = processorMs();
  for (let count = 1; ; count++) {
    await decode(file, pixels);
    const spent = processorMs() - began;
    if (spent >= LEAST_MS) return spent / count;
  }
}

const heads = ['file', 'KiB', ...values.checkout];
process.stdout.write(`| ${heads.join(' | ')} |\n|${'---|'.repeat(heads.length)}\n`);
for (const [kind, encode] of Object.entries(KINDS)) {
  for (const [width, height] of SIZES) {
    const file = await encode(sharp(readFileSync(PHOTO)).resize(width, height)).toBuffer();
    const costs: number[][] = decoders.map(() => []);
    for (const decode of decoders) await costMs(decode, file);
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const [index, decode] of decoders.entries()) {
        costs[index]!.push(await costMs(decode, file));
      }
    }
    const row = [`${kind}, ${width}x${height}`, Math.round(file.length / 1024)];
    process.stdout.write(
      `| ${[...row, ...costs.map((each) => median(each).toFixed(2))].join(' | ')} |\n`,
    );
  }
}
