/**
 * Measures one model on the execution provider, without the server.
 *
 *   node bench/gpu/measure.mjs --what latency,switching,workers [--provider cuda|cpu]
 *                              [--model FOLDER] [--exports FOLDER] [--out FOLDER] [--quick]
 *
 * --exports: static exports, written by export_models.py, to compare with.
 * Results: measure-<model>-<what>.json in --out, written again after each row.
 */
import { existsSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { join } from 'node:path';
import { InferenceEngine } from '../../dist/engine/engine.js';
import { createSession, feedsOf, ladderOf, readModel, readOptions } from './model.mjs';
import { timed, writeResults } from './model.mjs';

const options = readOptions();
const { provider, model, exports, out, quick, what } = options;
const { manifest, file } = await readModel(model);
const ladder = ladderOf(manifest);
const [superNet, baseNet] = [ladder[0], ladder.at(-1)];
const batches = quick ? [1, 4] : [1, 4, 8, 16, 32];
const results = { model: manifest.name, provider, latency: {}, switching: {}, workers: [] };
const note = () => writeResults(out, `measure-${manifest.name}-${what}`, results);

const measurements = { latency, switching, workers };
for (const name of what.split(',')) await measurements[name]();

/** Median ms by sub-network and batch size: in the one file, and as a static export. */
async function latency() {
  const one = await createSession(file, provider);
  // The two ends first: should time run out, they say most.
  for (const skip of [superNet, baseNet, ...ladder.slice(1, -1)]) {
    const path = exports && join(exports, 'static', manifest.name, `${skip}.onnx`);
    // Where the export failed, or was late, the one file is worth measuring all the same.
    const alone = path && existsSync(path) ? await createSession(path, provider) : null;
    results.latency[skip] = {};
    for (const batch of batches) {
      const ms = await timed(() => one.run(feedsOnce(skip, batch)), options);
      const staticMs = alone && (await timed(() => alone.run(feedsOnce('', batch)), options));
      results.latency[skip][batch] = { ms, staticMs };
    }
    await alone?.release();
    await note();
  }
  await one.release();
}

/** Median ms of super-net and base-net called in turn, against twice each in a row. */
async function switching() {
  const session = await createSession(file, provider);
  for (const batch of batches) {
    const call = (skip) => session.run(feedsOnce(skip, batch));
    const orders = {
      switched: [superNet, baseNet, superNet, baseNet],
      unswitched: [superNet, superNet, baseNet, baseNet],
    };
    const row = {};
    for (const [name, order] of Object.entries(orders)) {
      const runAll = async () => {
        for (const skip of order) await call(skip);
      };
      row[name] = (await timed(runAll, options)) / order.length;
    }
    results.switching[batch] = row;
    await note();
  }
  await session.release();
}

/** Images/s of the server's engine when every worker always has a batch. */
async function workers() {
  for (const count of [1, 2]) {
    results.workers.push(await saturate(count));
    await note();
  }
}

async function saturate(count) {
  const { name: inputName, height, width } = manifest.input;
  const shape = { inputName, height, width, flags: manifest.flags, intraOpThreads: 1 };
  const engine = await InferenceEngine.start(
    { ...shape, modelFile: file, provider, workers: count },
    { failed: (error) => process.stderr.write(`${error}\n`) },
  );
  const image = Uint8Array.from({ length: height * width * 3 }, (_, i) => (i * 31) % 256);
  const images = Array.from({ length: batches.at(-1) }, () => image);
  const imagesPerSecond = {};
  for (const skip of [superNet, baseNet]) {
    const run = (worker) => engine.run(worker, { skip }, images);
    const all = Array.from({ length: count }, (_, worker) => worker);
    await Promise.all(all.map(run));
    const started = performance.now();
    const stopAt = started + (quick ? 500 : 3000);
    const counts = await Promise.all(
      all.map(async (worker) => {
        let done = 0;
        for (; performance.now() < stopAt; done += images.length) await run(worker);
        return done;
      }),
    );
    const seconds = (performance.now() - started) / 1000;
    imagesPerSecond[skip] = counts.reduce((sum, done) => sum + done, 0) / seconds;
  }
  await engine.release();
  return { workers: count, batch: images.length, imagesPerSecond };
}

/** Inputs are made once: making them takes longer than a GPU takes to use them. */
function feedsOnce(skip, batch) {
  feedsOnce.made ??= new Map();
  const key = `${skip} ${batch}`;
  if (!feedsOnce.made.has(key)) feedsOnce.made.set(key, feedsOf(manifest, skip, batch));
  return feedsOnce.made.get(key);
}
