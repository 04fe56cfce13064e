/** Images per second over HTTP: several client processes, each with connections always busy. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { performance } from 'node:perf_hooks';
import { startServer } from './server.mjs';

const PORT = '18081';

/** One row per number of engine workers. */
export async function throughput({ provider, model, photo, quick }) {
  const cores = availableParallelism();
  const clients = quick ? 1 : Math.max(2, Math.floor(cores / 4));
  const seconds = quick ? 1 : 8;
  const rows = [];
  for (const workers of [1, 2]) {
    const server = await startServer({
      PORT,
      MODEL_DIR: model,
      EXECUTION_PROVIDER: provider,
      ENGINE_WORKERS: String(workers),
      // sharp decodes on libuv's threads, of which there are only four by default.
      UV_THREADPOOL_SIZE: String(cores),
    });
    try {
      const before = await cpuSeconds(server.url);
      const started = performance.now();
      const counts = await Promise.all(
        Array.from({ length: clients }, () => runClient(server.url, photo, seconds)),
      );
      const elapsed = (performance.now() - started) / 1000;
      const serverCores = ((await cpuSeconds(server.url)) - before) / elapsed;
      const [tiers, refused] = sum(counts);
      const images = Object.values(tiers).reduce((total, count) => total + count, 0);
      rows.push({
        workers,
        clients,
        imagesPerSecond: images / seconds,
        refused,
        serverCores,
        tiers,
      });
    } finally {
      await server.stop();
    }
  }
  return rows;
}

async function cpuSeconds(url) {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^process_cpu_seconds_total(?:{[^}]*})? (\S+)/m.exec(text)[1]);
}

function sum(counts) {
  const tiers = {};
  let refused = 0;
  for (const count of counts) {
    refused += count.refused;
    for (const [tier, images] of Object.entries(count.tiers)) {
      tiers[tier] = (tiers[tier] ?? 0) + images;
    }
  }
  return [tiers, refused];
}

async function runClient(url, photo, seconds) {
  const child = fork(new URL('http_client.mjs', import.meta.url).pathname, [
    url,
    photo,
    String(seconds),
  ]);
  const [message] = await once(child, 'message');
  await once(child, 'exit');
  return message;
}
