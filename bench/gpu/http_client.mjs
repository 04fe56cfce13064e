/**
 * One client process of http.mjs. Started by fork with one argument of JSON: `url`, `photos`,
 * `seconds`, `budgetMs`, and either `connections` that are always busy, or `rate`: requests per
 * second at random moments. Sends what became of the requests after a first second.
 */
import { readFile } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { quantile } from './model.mjs';
import { client } from './server.mjs';

const { url, photos, seconds, budgetMs, connections, rate } = JSON.parse(process.argv[2]);
const files = await Promise.all(photos.map((photo) => readFile(photo)));
const headers = {
  'content-type': 'application/octet-stream',
  'x-latency-budget-ms': String(budgetMs),
};
const send = client(connections ?? Infinity);
const seen = { answered: 0, late: 0, failed: {}, tiers: {}, secondLooks: 0 };
const [latencies, ratios] = [[], []];
const countFrom = performance.now() + 1000;
const stopAt = countFrom + seconds * 1000;
let next = 0;

if (connections) await Promise.all(Array.from({ length: connections }, busy));
else await arrivals();
const figures = {
  ...seen,
  p50Ms: quantile(latencies, 0.5),
  p99Ms: quantile(latencies, 0.99),
  // Actual time, as a multiple of what was predicted.
  p50Ratio: quantile(ratios, 0.5),
  p95Ratio: quantile(ratios, 0.95),
};
process.send(figures, () => process.exit());

async function busy() {
  while (performance.now() < stopAt) if (!(await ask())) await sleep(10);
}

async function arrivals() {
  const pending = [];
  for (let at = performance.now(); at < stopAt; at -= (Math.log(Math.random()) / rate) * 1000) {
    const wait = at - performance.now();
    if (wait > 1) await sleep(wait);
    pending.push(ask());
  }
  await Promise.all(pending);
}

/** Whether it was answered. */
async function ask() {
  const started = performance.now();
  const file = files[next++ % files.length];
  const { status, body } = await send(`${url}/classify`, file, headers).catch(() => ({}));
  const now = performance.now();
  if (now < countFrom || now > stopAt) return status === 200;
  if (status !== 200) {
    seen.failed[status ?? 'unconnected'] = (seen.failed[status ?? 'unconnected'] ?? 0) + 1;
    return false;
  }
  const { subNetwork, looks, budget } = JSON.parse(body);
  seen.answered += 1;
  seen.late += budget.met ? 0 : 1;
  seen.secondLooks += looks.length > 1 ? 1 : 0;
  seen.tiers[subNetwork.skip] = (seen.tiers[subNetwork.skip] ?? 0) + 1;
  latencies.push(now - started);
  ratios.push(budget.actualMs / budget.predictedMs);
  return true;
}
