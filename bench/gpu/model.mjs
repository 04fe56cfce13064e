/** What all scripts here share: options, model folders, photos, sessions and results. */
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import * as ort from 'onnxruntime-node';
import { createDecoder } from '../../dist/preprocess/decode.js';

/** Command line options; `--quick` shortens everything for rehearsals. */
export function readOptions() {
  const { values } = parseArgs({
    options: {
      provider: { type: 'string', default: 'cuda' },
      model: { type: 'string', default: 'models/cifar10' },
      exports: { type: 'string' },
      out: { type: 'string', default: 'bench/gpu/results' },
      port: { type: 'string', default: '18080' },
      what: { type: 'string' },
      quick: { type: 'boolean', default: false },
    },
  });
  return values;
}

/** The manifest, and the path of its ONNX file. */
export async function readModel(folder) {
  const manifest = JSON.parse(await readFile(join(folder, 'model.json'), 'utf8'));
  return { manifest, file: join(folder, manifest.file) };
}

/** The model's sample photos as files; those of another model where it has none. */
export async function photosOf(folder) {
  for (const source of [folder, 'models/grocery']) {
    const samples = join(source, 'samples');
    const names = await readdir(samples).catch(() => []);
    const photos = names.filter((name) => name.endsWith('.jpg')).toSorted();
    if (photos.length > 0) return photos.map((name) => join(samples, name));
  }
  throw new Error(`no photos for ${folder}`);
}

/** The photos' pixels as the server makes them, one behind the other; and how many there are. */
export async function decoded(manifest, photos) {
  const { height, width } = manifest.input;
  const size = height * width * 3;
  const pixels = new Uint8Array(photos.length * size);
  const decode = createDecoder({ ...manifest.input, maxPixels: 50_000_000 });
  for (const [index, photo] of photos.entries()) {
    await decode(await readFile(photo), pixels.subarray(index * size, (index + 1) * size));
  }
  return { pixels, count: photos.length };
}

/** A session with the settings of src/engine/worker.ts. */
export function createSession(file, provider, more = {}) {
  return ort.InferenceSession.create(file, {
    executionProviders: provider === 'cuda' ? ['cuda', 'cpu'] : ['cpu'],
    intraOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
    extra: { session: { intra_op: { allow_spinning: '0' } } },
    ...more,
  });
}

/** Inputs of one call: `count` images, and a flag per letter of `skip`. */
export function feedsOf(manifest, skip, count, pixels = noise) {
  const { name, height, width } = manifest.input;
  const bytes = Uint8Array.from({ length: count * height * width * 3 }, (_, i) => pixels(i));
  const feeds = { [name]: new ort.Tensor('uint8', bytes, [count, height, width, 3]) };
  [...skip].forEach((letter, stage) => {
    feeds[manifest.flags[stage]] = new ort.Tensor('bool', Uint8Array.of(letter === 'T'), []);
  });
  return feeds;
}

/** The same on every machine, and not blank. */
function noise(index) {
  return (Math.imul(index + 1, 2_654_435_761) >>> 24) & 255;
}

/** The sub-networks to measure: from the super-net to the base-net, skipped from the front. */
export function ladderOf(manifest) {
  const flags = manifest.flags.length;
  return Array.from({ length: flags + 1 }, (_, n) => 'T'.repeat(n) + 'F'.repeat(flags - n));
}

export function median(values) {
  return quantile(values, 0.5);
}

/** null: there are no values. */
export function quantile(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? null;
}

/** Median ms of `call`, after calls that are not counted (CUDA chooses its algorithms there). */
export async function timed(call, { quick }) {
  const [most, longestMs] = quick ? [3, 100] : [50, 300];
  await call();
  await call();
  const times = [];
  const stopAt = performance.now() + longestMs;
  do {
    const started = performance.now();
    await call();
    times.push(performance.now() - started);
  } while (times.length < most && performance.now() < stopAt);
  return median(times);
}

/** Full results as JSON into the folder `out`; written again as they grow, since time may run out. */
export async function writeResults(out, name, results) {
  await mkdir(out, { recursive: true });
  await writeFile(join(out, `${name}.json`), `${JSON.stringify(results)}\n`);
}
