/**
 * How soon the server is ready, and what becomes of what it measured meanwhile.
 *
 *   npm run bench:start -- [--starts 5] [--seconds 60] [--server-cpus 0]
 *   npm run bench:start -- --checkout ../before --checkout .   built ones in turn; starts alone
 *
 * Starts without and with LATENCY_CACHE; then one beside as many busy processes as there are cores,
 * which end when it is ready. Every tenth of `--seconds` it says which sub-networks may be chosen
 * and what the slowest and the quickest take, and whether the smallest budget that a refusal names
 * is met. MODEL_DIR: another model than models/cifar10.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { median } from '../median.ts';
import { serve } from './server.ts';
import type { Served } from './server.ts';

const { values } = parseArgs({
  options: {
    starts: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '60' },
    'server-cpus': { type: 'string' },
    checkout: { type: 'string', multiple: true, default: ['.'] },
  },
});
const PORT = 18_203;
const SAMPLES = 10;
const image = readFileSync('models/cifar10/samples/cat.jpg');

async function started(
  env: NodeJS.ProcessEnv = {},
  checkout = '.',
): Promise<{ server: Served; ms: number }> {
  const began = performance.now();
  const server = await serve(PORT, env, values['server-cpus'], checkout);
  return { server, ms: performance.now() - began };
}

async function starts(what: string, env: NodeJS.ProcessEnv = {}): Promise<void> {
  const times = new Map(values.checkout.map((checkout): [string, number[]] => [checkout, []]));
  for (let i = 0; i < Number(values.starts); i++) {
    for (const [checkout, mine] of times) {
      const { server, ms } = await started(env, checkout);
      mine.push(ms / 1000);
      await server.stop();
    }
  }
  for (const [checkout, mine] of times) {
    const range = `${Math.min(...mine).toFixed(1)} to ${Math.max(...mine).toFixed(1)}`;
    const ready = `ready in ${median(mine).toFixed(1)} s (${range}, ${mine.length} starts)`;
    console.log(`${what}, ${checkout}: ${ready}`);
  }
}

interface Model {
  readonly tiers: readonly { readonly skip: string }[];
  readonly latencyNow: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** The front, its ends' times for one image, and a refusal's budget, sent again. */
async function look(): Promise<string> {
  const { tiers, latencyNow } = (await get('/model')) as Model;
  const msOf = (index: number) => {
    const { skip } = tiers.at(index)!;
    return `${skip} ${latencyNow[skip]!['1']!.toFixed(1)} ms`;
  };
  const refused = await classify(1);
  const { smallestBudgetMs } = (await refused.json()) as { smallestBudgetMs: number };
  const smallest = Math.ceil(smallestBudgetMs);
  const answered = await classify(smallest);
  const { code, budget } = (await answered.json()) as {
    code?: string;
    budget?: { actualMs: number };
  };
  const became = budget
    ? `answered in ${budget.actualMs.toFixed(1)} ms`
    : `${answered.status} ${code}`;
  return `${tiers.length} sub-networks, ${msOf(0)}, ${msOf(-1)}; smallest budget ${smallest} ms: ${became}`;
}

const get = async (path: string) => (await fetch(`http://127.0.0.1:${PORT}${path}`)).json();

const classify = (budgetMs: number) =>
  fetch(`http://127.0.0.1:${PORT}/classify`, {
    method: 'POST',
    headers: { 'content-type': 'image/jpeg', 'x-latency-budget-ms': String(budgetMs) },
    body: image,
  });

/** Watches a server that was started just now. */
async function watch(server: Served): Promise<void> {
  for (let i = 0; i <= SAMPLES; i++) {
    const at = (i * Number(values.seconds)) / SAMPLES;
    console.log(`  after ${at.toFixed(0)} s: ${await look()}`);
    if (i < SAMPLES) await sleep((1000 * Number(values.seconds)) / SAMPLES);
  }
  await server.stop();
}

await starts('no cache');
const folder = mkdtempSync(join(tmpdir(), 'latencies-'));
const cached = { LATENCY_CACHE: folder };
// Writes the cache.
await (await started(cached)).server.stop();
await starts('LATENCY_CACHE', cached);
rmSync(folder, { recursive: true });
if (values.checkout.length > 1) process.exit();

const calm = await started();
console.log(`alone: ready in ${(calm.ms / 1000).toFixed(1)} s`);
await watch(calm.server);

const busy = Array.from({ length: availableParallelism() }, () =>
  spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
);
const beside = await started();
for (const neighbour of busy) neighbour.kill('SIGKILL');
console.log(`beside ${busy.length} busy processes: ready in ${(beside.ms / 1000).toFixed(1)} s`);
await watch(beside.server);
