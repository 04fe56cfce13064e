/**
 * Ten times the load that the server can answer, among idle and slow clients.
 *
 *   npm run bench:overload -- [--seconds 60] [--budget 100] [--factor 10]
 *
 * The client needs time, too, and at ten times the load much more than at the peak. To see what the
 * server does with the same processor at both, give each its own:
 *
 *   taskset -c 1 npm run bench:overload -- --server-cpus 0
 *
 * What a server could answer at most at ten times the load is told beside it: what is left of the
 * processor when the kernel and `node:http` have refused the rest (`bench/cost/bare.mjs`, which
 * refuses all, at the same rate).
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { MeasuredServer } from '../cost/server.ts';
import { load, quantile } from './load.ts';
import type { LoadResult } from './load.ts';
import { residentMb, serve } from './server.ts';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    budget: { type: 'string', default: '100' },
    factor: { type: 'string', default: '10' },
    idle: { type: 'string', default: '2000' },
    slow: { type: 'string', default: '200' },
    'server-cpus': { type: 'string' },
  },
});
const budgetMs = Number(values.budget);
const seconds = Number(values.seconds);

const image = await sharp(readFileSync('models/cifar10/samples/cat.jpg')).resize(96).toBuffer();
const server = await serve(18_201, {}, values['server-cpus']);
const { port, pid } = server;

// Until more load brings no more answers in time. Answers still come for a budget after the last
// request, which must not count for much.
const scanned = Math.max(4, budgetMs / 100);
let peak = 0;
let peakRate = 0;
for (let rate = 100; rate < 20 * (peakRate + 100); rate = Math.round(rate * 1.3)) {
  const result = await load({ port, image, budgetMs, rate, seconds: scanned });
  const goodput = result.good / scanned;
  report(`${rate}/s offered`, result, scanned);
  if (goodput > peak) [peak, peakRate] = [goodput, rate];
  if (goodput < 0.8 * rate && rate > 1.6 * peakRate) break;
}

const before = residentMb(pid);
const hostile = [
  ...Array.from({ length: Number(values.idle) }, () => abuse('')),
  ...Array.from({ length: Number(values.slow) }, (_, i) =>
    abuse(
      i % 2
        ? 'GET /model HTTP/1.1\r\nHost: x\r\nX-Slow: '
        : 'POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 99999\r\n\r\n',
    ),
  ),
];
const dripping = setInterval(() => {
  for (const socket of hostile.slice(Number(values.idle))) socket.write('a');
}, 1000);
let most = before;
const watching = setInterval(() => {
  most = Math.max(most, residentMb(pid));
}, 100);

const rate = Number(values.factor) * peak;
const over = await load({ port, image, budgetMs, rate, seconds, connections: 4000 });
clearInterval(dripping);
clearInterval(watching);
report(`${rate.toFixed(0)}/s offered for ${seconds} s`, over, seconds);
await sleep(2000);
const after = await load({ port, image, budgetMs, rate: peak / 2, seconds: 4 });
report('afterwards, half the peak', after, 4);
console.log(
  `goodput ${(over.good / seconds).toFixed(0)}/s of at most ${peak.toFixed(0)}/s ` +
    `(${((100 * over.good) / seconds / peak).toFixed(0)} %); ` +
    `resident memory ${before.toFixed(0)} MB before, ${most.toFixed(0)} MB at most, ` +
    `${residentMb(pid).toFixed(0)} MB afterwards`,
);
for (const socket of hostile) socket.destroy();
await server.stop();

const refusing = await refusalMs();
const limit = Math.max(0, peak * (1 - ((rate - peak) * refusing) / 1000 / processors()));
console.log(
  `node:http refuses at this rate in ${refusing.toFixed(3)} ms each, which leaves ` +
    `${limit.toFixed(0)}/s: goodput is ${((100 * over.good) / seconds / limit).toFixed(0)} % of that`,
);

/** Processor ms that the barest server takes for a refusal, at ten times the load. */
async function refusalMs(): Promise<number> {
  const script = 'bench/cost/bare.mjs';
  const cores = values['server-cpus'];
  const bare = await MeasuredServer.start({
    script,
    model: 'models/cifar10',
    cores,
    port: port + 1,
  });
  const used = () => Object.values(bare.cpu()).reduce((a, b) => a + b, 0);
  const target = { port: port + 1, image, budgetMs, rate, connections: 4000 };
  await load({ ...target, seconds: 2 });
  const before = used();
  const { byStatus } = await load({ ...target, seconds: 5 });
  const ms = (used() - before) / byStatus['503']!;
  await bare.stop();
  return ms;
}

/** That the server may use; `--server-cpus` as `taskset` takes it: 0,2-3. */
function processors(): number {
  const ranges = values['server-cpus']?.split(',').map((range) => range.split('-').map(Number));
  if (!ranges) return availableParallelism();
  return ranges.reduce((sum, [first, last = first]) => sum + last! - first! + 1, 0);
}

function abuse(bytes: string): Socket {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  if (bytes) socket.write(bytes);
  return socket;
}

function report(what: string, result: LoadResult, duration: number): void {
  const { byStatus, good, met } = result;
  const answered = byStatus['200'] ?? 0;
  const latencies = result.latencies.map(({ ms }) => ms);
  console.log(
    `${what}: goodput ${(good / duration).toFixed(0)}/s, ${JSON.stringify(byStatus)}, ` +
      `of those answered ${((100 * met) / answered).toFixed(1)} % met by the server's clock, ` +
      `p99 ${quantile(latencies, 0.99).toFixed(0)} ms`,
  );
}
