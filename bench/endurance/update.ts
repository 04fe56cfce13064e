/**
 * New versions of the model, one after the other, under a steady load: failed requests, resident
 * memory after each, and how much the warm-up of the next delays those that are served.
 *
 *   npm run bench:update -- [--swaps 5] [--rate 100] [--budget 200]
 */
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { load, quantile } from './load.ts';
import { openFiles, residentMb, serve, threads } from './server.ts';

const { values } = parseArgs({
  options: {
    swaps: { type: 'string', default: '5' },
    rate: { type: 'string', default: '100' },
    budget: { type: 'string', default: '200' },
  },
});
/** Between the end of one update and the next, s. */
const STEADY = 5;

const folder = mkdtempSync(join(tmpdir(), 'depthserve-update-'));
for (const file of ['model.json', 'model.onnx']) {
  copyFileSync(join('models/cifar10', file), join(folder, file));
}
const manifest = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8')) as object;
const server = await serve(18_203, { MODEL_DIR: folder, MODEL_POLL_SECONDS: '0' });
const { port, pid } = server;
const image = await sharp(readFileSync('models/cifar10/samples/cat.jpg')).resize(96).toBuffer();
const shape = { port, image, budgetMs: Number(values.budget), rate: Number(values.rate) };

const totals: Record<string, number> = {};
const p99: Record<'steady' | 'warmingUp', number[]> = { steady: [], warmingUp: [] };
console.log(describe('at start'));
for (let swap = 1; swap <= Number(values.swaps); swap++) {
  await during('steady', () => sleep(STEADY * 1000));
  const version = `2.0.${swap}`;
  const began = performance.now();
  writeFileSync(join(folder, '.model.json'), JSON.stringify({ ...manifest, version }));
  renameSync(join(folder, '.model.json'), join(folder, 'model.json'));
  process.kill(pid, 'SIGHUP');
  await during('warmingUp', async () => {
    while (!(await served()).includes(`"version":"${version}"`)) await sleep(200);
  });
  console.log(describe(`${version}, after ${((performance.now() - began) / 1000).toFixed(1)} s`));
}
await during('steady', () => sleep(STEADY * 1000));
console.log(describe('at the end'));
const worst = (part: readonly number[]) => part.map((ms) => ms.toFixed(0)).join(', ');
console.log(`p99 in ms, steady: ${worst(p99.steady)}; while warming up: ${worst(p99.warmingUp)}`);
console.log(`requests by status: ${JSON.stringify(totals)}`);
console.log(`drained with code ${await server.stop()}`);
rmSync(folder, { recursive: true });

/** Load, second by second, for as long as `work` takes. */
async function during(part: keyof typeof p99, work: () => Promise<void>): Promise<void> {
  const over = new AbortController();
  const working = work().then(() => over.abort());
  const latencies: number[] = [];
  do {
    const result = await load({ ...shape, seconds: 1 });
    latencies.push(...result.latencies.map(({ ms }) => ms));
    for (const [status, count] of Object.entries(result.byStatus)) {
      totals[status] = (totals[status] ?? 0) + count;
    }
  } while (!over.signal.aborted);
  await working;
  p99[part].push(quantile(latencies, 0.99));
}

async function served(): Promise<string> {
  return (await fetch(`http://127.0.0.1:${port}/model`)).text();
}

function describe(when: string): string {
  const mb = residentMb(pid).toFixed(0);
  return `${when}: ${mb} MB resident, ${threads(pid)} threads, ${openFiles(pid)} open files`;
}
