/**
 * Measures one model on the execution provider.
 *
 *   node bench/gpu/measure.mjs [--provider cuda|cpu] [--model FOLDER] [--exports FOLDER]
 *                              [--photo FILE] [--out FOLDER] [--quick]
 *
 * --exports: written by export_models.py; --photo: turns on the measurement over HTTP.
 * Full results: measure-<model>.json in --out; a short table comes last.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism, cpus } from 'node:os';
import { performance } from 'node:perf_hooks';
import { join } from 'node:path';
import { InferenceEngine } from '../../dist/engine/engine.js';
import {
  createSession,
  feedsOf,
  ladderOf,
  median,
  readModel,
  readOptions,
  timed,
  writeResults,
} from './model.mjs';
import { throughput } from './http.mjs';

const options = readOptions();
const { provider, model, exports, photo, out, quick } = options;
const { manifest, file } = await readModel(model);
const ladder = ladderOf(manifest);
const [superNet, baseNet] = [ladder[0], ladder.at(-1)];
const batches = quick ? [1, 4] : [1, 2, 4, 8, 16, 32];

const results = {
  model: manifest.name,
  provider,
  processor: `${availableParallelism()} x ${cpus()[0].model.trim()}`,
  node: process.version,
};
results.latency = await latency();
results.switching = await switching();
results.neighbour = await neighbour();
results.workers = [await saturate(1), await saturate(2)];
if (photo) results.http = await throughput(options, manifest);
await writeResults(out, `measure-${manifest.name}`, results);
report();

/** Median ms by sub-network and batch size: in the one file, and as a static export. */
async function latency() {
  const one = await createSession(file, provider);
  const table = {};
  for (const skip of ladder) {
    const path = exports && join(exports, 'static', manifest.name, `${skip}.onnx`);
    const alone = path ? await createSession(path, provider) : null;
    table[skip] = {};
    for (const batch of batches) {
      const ms = await timed(() => one.run(feedsOnce(skip, batch)), options);
      const staticMs = alone && (await timed(() => alone.run(feedsOnce('', batch)), options));
      table[skip][batch] = { ms, staticMs };
    }
    await alone?.release();
  }
  await one.release();
  return table;
}

/** Median ms of super-net and base-net called in turn, against twice each in a row. */
async function switching() {
  const session = await createSession(file, provider);
  const rows = {};
  for (const batch of batches) {
    const call = (skip) => session.run(feedsOnce(skip, batch));
    const orders = {
      switched: [superNet, baseNet, superNet, baseNet],
      unswitched: [superNet, superNet, baseNet, baseNet],
    };
    rows[batch] = {};
    for (const [name, order] of Object.entries(orders)) {
      const runAll = async () => {
        for (const skip of order) await call(skip);
      };
      rows[batch][name] = (await timed(runAll, options)) / order.length;
    }
  }
  await session.release();
  return rows;
}

/** Median ms of the super-net at the largest batch size, alone and beside a second process. */
async function neighbour() {
  const session = await createSession(file, provider);
  const batch = batches.at(-1);
  const call = () => session.run(feedsOnce(superNet, batch));
  const alone = await timed(call, options);
  const path = new URL('neighbour.mjs', import.meta.url).pathname;
  const other = spawn(process.execPath, [path, '--provider', provider, '--model', model], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(other.stdout, 'data');
  const beside = await timed(call, options);
  other.kill('SIGTERM');
  await once(other, 'exit');
  await session.release();
  return { batch, alone, beside };
}

/** Images/s of the server's engine when every worker always has a batch. */
async function saturate(workers) {
  const { name: inputName, height, width } = manifest.input;
  const shape = { inputName, height, width, flags: manifest.flags, intraOpThreads: 1 };
  const engine = await InferenceEngine.start(
    { ...shape, modelFile: file, provider, workers },
    { failed: (error) => process.stderr.write(`${error}\n`) },
  );
  const image = Uint8Array.from({ length: height * width * 3 }, (_, i) => (i * 31) % 256);
  const images = Array.from({ length: batches.at(-1) }, () => image);
  const imagesPerSecond = {};
  for (const skip of [superNet, baseNet]) {
    const run = (worker) => engine.run(worker, { skip }, images);
    const all = Array.from({ length: workers }, (_, worker) => worker);
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
  return { workers, batch: images.length, imagesPerSecond };
}

/** Inputs are made once: making them takes longer than a GPU takes to use them. */
function feedsOnce(skip, batch) {
  feedsOnce.made ??= new Map();
  const key = `${skip} ${batch}`;
  if (!feedsOnce.made.has(key)) feedsOnce.made.set(key, feedsOf(manifest, skip, batch));
  return feedsOnce.made.get(key);
}

function report() {
  const lines = [`${manifest.name} on ${provider}, ${results.processor}`];
  lines.push(
    `| ms/call (static) | ${batches.join(' | ')} |`,
    `|---${'|---'.repeat(batches.length)}|`,
  );
  for (const [skip, row] of Object.entries(results.latency)) {
    const cells = Object.values(row).map(
      ({ ms, staticMs }) => ms.toFixed(2) + (staticMs ? ` (${staticMs.toFixed(2)})` : ''),
    );
    lines.push(`| ${skip} | ${cells.join(' | ')} |`);
  }
  const ratios = Object.values(results.switching).map((row) => row.switched / row.unswitched);
  lines.push(`switching depth at every call: x ${median(ratios).toFixed(3)}`);
  const { alone, beside, batch } = results.neighbour;
  lines.push(`beside a second process (batch ${batch}): x ${(beside / alone).toFixed(2)}`);
  for (const { workers, imagesPerSecond } of results.workers) {
    const rates = Object.entries(imagesPerSecond).map(
      ([skip, rate]) => `${skip} ${rate.toFixed(0)}`,
    );
    lines.push(`${workers} engine worker(s), images/s: ${rates.join(', ')}`);
  }
  for (const row of results.http ?? []) {
    lines.push(
      `HTTP, ${row.workers} worker(s), ${row.clients} clients: ${row.imagesPerSecond.toFixed(0)} images/s, ` +
        `server used ${row.serverCores.toFixed(1)} cores, tiers ${JSON.stringify(row.tiers)}`,
    );
  }
  process.stdout.write(`${lines.join('\n')}\n`);
}
