/**
 * Measures one model through the server, with clients in processes of their own.
 *
 *   node bench/gpu/http.mjs --what throughput,looks,neighbour [--provider cuda|cpu]
 *                           [--model FOLDER] [--out FOLDER] [--port N] [--quick]
 *
 * throughput: connections that are always busy, with one or two engine workers, and with several
 *             servers on the one GPU; beside it what was busy: processor, engine, GPU
 *             (comes first: the others send shares of what it found)
 * looks:      little traffic, and a burst above the super-net's capacity, second looks on and off
 * neighbour:  a second process on the GPU: what becomes of predictions and budgets
 * Results: http-<model>.json in --out, written again after each row.
 */
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { photosOf, readModel, readOptions, writeResults } from './model.mjs';
import { startServer } from './server.mjs';

const options = readOptions();
const { provider, model, out, port, quick, what } = options;
const { manifest } = await readModel(model);
const photos = await photosOf(model);
const cores = availableParallelism();
/** Client processes; the servers have the other cores. */
const processes = quick ? 1 : Math.max(2, Math.floor(cores / 4));
const seconds = quick ? 2 : 6;
const results = { model: manifest.name, provider, cores, processes, seconds };
const note = () => writeResults(out, `http-${manifest.name}`, results);

const measurements = { throughput, looks, neighbour };
for (const name of what.split(',')) await measurements[name]();

async function throughput() {
  results.throughput = [];
  const layouts = quick
    ? [[1, 1]]
    : [
        [1, 1],
        [1, 2],
        [2, 1],
      ];
  const connections = quick ? 8 : Math.ceil(128 / processes);
  for (const [servers, workers] of layouts) {
    await withServers(servers, { ENGINE_WORKERS: String(workers) }, async (urls) => {
      // Time enough for the super-net, and so little that depth gives way.
      for (const budgetMs of [10_000, 100]) {
        const row = await load(urls, { connections, budgetMs });
        results.throughput.push({ servers, workers, budgetMs, ...row });
        await note();
      }
    });
  }
}

/** Answers/s of the super-net, by one server with one worker. */
function capacity() {
  const { perSecond } = results.throughput[0];
  if (perSecond === 0) throw new Error('nothing was answered, so there is no capacity');
  return perSecond;
}

async function looks() {
  results.looks = [];
  const folder = await mkdtemp(join(tmpdir(), 'quarters-'));
  const quarters = await quartersOf(photos, folder);
  for (const secondLooks of ['on', 'off']) {
    const settings = { ENGINE_WORKERS: '1', SECOND_LOOKS: secondLooks };
    const rows = await withServers(1, settings, async (urls) => {
      const calm = await load(urls, { rate: capacity() * 0.3, budgetMs: 100, photos: quarters });
      return {
        calm,
        burst: await load(urls, { rate: capacity() * 1.2, budgetMs: 100, photos: quarters }),
      };
    });
    for (const [moment, row] of Object.entries(rows)) {
      results.looks.push({ setting: secondLooks, moment, ...row });
    }
    await note();
  }
  await rm(folder, { recursive: true });
}

/** Files with the four quarters of each photo: sure of its samples, a network doubts some of these. */
async function quartersOf(files, folder) {
  const made = [];
  for (const file of files) {
    const whole = await readFile(file);
    const { width, height } = await sharp(whole).metadata();
    const [right, lower] = [Math.floor(width / 2), Math.floor(height / 2)];
    for (const left of [0, right]) {
      for (const top of [0, lower]) {
        const path = join(folder, `${made.length}.jpg`);
        await sharp(whole).extract({ left, top, width: right, height: lower }).toFile(path);
        made.push(path);
      }
    }
  }
  return made;
}

async function neighbour() {
  results.neighbour = [];
  const traffic = { rate: capacity() * 0.3, budgetMs: 100 };
  await withServers(1, { ENGINE_WORKERS: '1' }, async (urls) => {
    results.neighbour.push({ second: 'none', ...(await load(urls, traffic)) });
    const path = new URL('neighbour.mjs', import.meta.url).pathname;
    const other = spawn(process.execPath, [path, '--provider', provider, '--model', model], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(other.stdout, 'data');
    // At once, and after the server had time to correct its latency table.
    for (const second of ['new', 'known']) {
      results.neighbour.push({ second, ...(await load(urls, traffic)) });
      await note();
    }
    other.kill('SIGTERM');
    await once(other, 'exit');
    results.neighbour.push({ second: 'gone', ...(await load(urls, traffic)) });
  });
  await note();
}

/** Runs `task` with the URLs of so many servers that share the device. */
async function withServers(count, settings, task) {
  const servers = [];
  try {
    for (let index = 0; index < count; index++) {
      servers.push(
        await startServer({
          PORT: String(Number(port) + index),
          MODEL_DIR: model,
          EXECUTION_PROVIDER: provider,
          GPU_SAMPLE_SECONDS: provider === 'cuda' ? '1' : '0',
          ...settings,
        }),
      );
    }
    return await task(servers.map(({ url }) => url));
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
}

/** Load from all client processes, spread over the servers; the sum of what they saw. */
async function load(urls, { rate, ...traffic }) {
  const count = Math.max(processes, urls.length);
  const before = await Promise.all(urls.map(readMetrics));
  const started = performance.now();
  const clients = Array.from({ length: count }, (_, index) => {
    const url = urls[index % urls.length];
    return runClient({ url, photos, seconds, ...(rate && { rate: rate / count }), ...traffic });
  });
  await sleep(1000 + seconds * 500);
  const gpu = (await readMetrics(urls[0])).gpu;
  const seen = await Promise.all(clients);
  const after = await Promise.all(urls.map(readMetrics));
  const elapsed = (performance.now() - started) / 1000;
  const used = (name) =>
    after.reduce((total, now, index) => total + now[name] - before[index][name], 0) / elapsed;
  const total = (name) => seen.reduce((sum, row) => sum + row[name], 0);
  const worst = (name) => Math.max(...seen.map((row) => row[name] ?? 0));
  return {
    perSecond: total('answered') / seconds,
    asked: rate ?? null,
    late: total('late'),
    secondLooks: total('secondLooks'),
    failed: merged(seen.map((row) => row.failed)),
    tiers: merged(seen.map((row) => row.tiers)),
    // Of the client process that fared worst.
    p50Ms: worst('p50Ms'),
    p99Ms: worst('p99Ms'),
    p50Ratio: worst('p50Ratio'),
    p95Ratio: worst('p95Ratio'),
    serverCores: used('cpu'),
    engineBusy: used('engine') / urls.length,
    gpuUtilisation: gpu,
  };
}

/** Seconds of processor and engine so far, and the share of time that the GPU is busy. */
async function readMetrics(url) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const sum = (name) => {
    const lines = [...text.matchAll(new RegExp(`^${name}(?:{[^}]*})? (\\S+)`, 'gm'))];
    return lines.length > 0 ? lines.reduce((total, [, value]) => total + Number(value), 0) : null;
  };
  return {
    cpu: sum('process_cpu_seconds_total'),
    engine: sum('depthserve_engine_busy_seconds_total'),
    gpu: sum('depthserve_gpu_utilization_ratio'),
  };
}

function merged(counts) {
  const all = {};
  for (const [key, count] of counts.flatMap(Object.entries)) all[key] = (all[key] ?? 0) + count;
  return all;
}

async function runClient(settings) {
  const path = new URL('http_client.mjs', import.meta.url).pathname;
  const child = fork(path, [JSON.stringify(settings)]);
  const [message] = await once(child, 'message');
  await once(child, 'exit');
  return message;
}
