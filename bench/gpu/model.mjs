/** What all scripts here share: options, model folders, sessions and statistics. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import * as ort from 'onnxruntime-node';

/** Command line options; `--quick` shortens everything for rehearsals. */
export function readOptions() {
  const { values } = parseArgs({
    options: {
      provider: { type: 'string', default: process.env.PROVIDER ?? 'cuda' },
      model: { type: 'string', default: 'models/cifar10' },
      exports: { type: 'string' },
      photo: { type: 'string' },
      out: { type: 'string', default: 'bench/gpu/results' },
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

/** The sub-networks to measure: all, or every other stage skipped from the front. */
export function ladderOf(manifest) {
  const flags = manifest.flags.length;
  return Array.from({ length: flags + 1 }, (_, n) => 'T'.repeat(n) + 'F'.repeat(flags - n));
}

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

/** Median ms of `call`, after calls that are not counted (CUDA chooses its algorithms there). */
export async function timed(call, { quick }) {
  const [most, longestMs] = quick ? [3, 100] : [50, 500];
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

/** Full results as JSON into the folder `out`. */
export async function writeResults(out, name, results) {
  await mkdir(out, { recursive: true });
  await writeFile(join(out, `${name}.json`), `${JSON.stringify(results, null, 2)}\n`);
}
