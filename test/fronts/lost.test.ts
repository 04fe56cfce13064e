import { afterAll, beforeAll, expect, it } from 'vitest';
import { CAT, classify, scrape } from '../http/client.ts';
import { RawConnection, bytesOf, formOf } from '../http/raw.ts';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';

const PATIENT = { 'x-latency-budget-ms': '600000' };
const MANY = formOf(Array.from({ length: 400 }, () => CAT));
const HEAD = [
  'POST /classify HTTP/1.1',
  'Content-Type: multipart/form-data; boundary=b',
  'X-Latency-Budget-Ms: 600000',
];
const DEADLY = 'GET /deadly HTTP/1.1\r\nHost: test\r\n\r\n';
/** ms; a thread starts anew meanwhile. */
const SOON = { timeout: 60_000 };

let server: Server;
beforeAll(async () => {
  server = await startServer(
    { FRONTS: '2', MAX_BATCH: '1', MAX_IMAGES_PER_REQUEST: '400' },
    { nodeOptions: ['--import', new URL('./deadly.mjs', import.meta.url).pathname] },
  );
});
afterAll(async () => {
  await server?.stop();
});

/** Without a front for a moment, a server refuses connections. */
const metrics = () => scrape(server.url).catch(() => '');

it('a front that is lost is replaced, and counted', async () => {
  const connection = await RawConnection.open(server.url);
  await connection.send(DEADLY);
  expect(await connection.ended()).toBe('');
  await expect.poll(metrics, SOON).toContain('depthserve_fronts_lost_total 1');
  expect(server.log()).toContain('a front was lost, and is replaced');
  expect((await classify(server.url, CAT, PATIENT)).status).toBe(200);
});

it('its requests are given up, and counted as faults', async () => {
  const connection = await RawConnection.open(server.url);
  await connection.send(bytesOf(HEAD, MANY));
  await expect.poll(metrics, SOON).toMatch(/depthserve_queue_length [1-9]/);
  await connection.send(DEADLY);
  expect(await connection.ended()).toBe('');
  const fault = /depthserve_requests_total\{tier="none",outcome="internal"\} 1\n/;
  await expect.poll(metrics, SOON).toMatch(fault);
  // What a decoder is at, it ends.
  await expect.poll(metrics, SOON).toContain('depthserve_queue_length 0\n');
  expect((await classify(server.url, CAT, PATIENT)).status).toBe(200);
});

it('afterwards it can be stopped as ever', async () => {
  expect(await server.stop()).toBe(0);
});
