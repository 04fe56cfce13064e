/**
 * One client process of http.mjs: keeps its connections busy and counts answers by tier, after a
 * second that is not counted. Started by fork with URL, photo and seconds; sends its counts.
 */
import { readFile } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { client } from './server.mjs';

const CONNECTIONS = 32;
const BUDGET_MS = '1000';

const [url, photo, seconds] = process.argv.slice(2);
const file = await readFile(photo);
const headers = { 'content-type': 'application/octet-stream', 'x-latency-budget-ms': BUDGET_MS };
const send = client(CONNECTIONS);
const tiers = {};
let refused = 0;
const countFrom = performance.now() + 1000;
const stopAt = countFrom + Number(seconds) * 1000;
await Promise.all(Array.from({ length: CONNECTIONS }, connection));
process.send({ tiers, refused });
process.disconnect();
// Keep-alive sockets would hold the process for seconds more.
setImmediate(() => process.exit());

async function connection() {
  while (performance.now() < stopAt) {
    const { status, body } = await send(`${url}/classify`, file, headers);
    const now = performance.now();
    const counted = now >= countFrom && now <= stopAt;
    if (status === 200) {
      const { skip } = JSON.parse(body).subNetwork;
      if (counted) tiers[skip] = (tiers[skip] ?? 0) + 1;
    } else {
      if (counted) refused += 1;
      await sleep(10);
    }
  }
}
