import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { constants, gzipSync } from 'node:zlib';
import { afterEach, expect, it } from 'vitest';
import { CAT, classify, scrape } from '../http/client.ts';
import type { Problem } from '../http/client.ts';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';

const PATIENT = { 'x-latency-budget-ms': '60000' };

let server: Server;
let sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets = [];
  expect(await server.stop()).toBe(0);
});

/** A connection that has sent `bytes`; collects what comes back. */
function open(bytes = ''): Socket & { received?: string } {
  const { hostname, port } = new URL(server.url);
  const socket: Socket & { received?: string } = connect(Number(port), hostname);
  socket.received = '';
  socket.on('data', (chunk: Buffer) => (socket.received += chunk.toString()));
  socket.on('error', () => {});
  if (bytes) socket.write(bytes);
  sockets.push(socket);
  return socket;
}

const head = (length: number) =>
  `POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nX-Latency-Budget-Ms: 60000\r\nContent-Length: ${length}\r\n\r\n`;
const answersWell = async () => expect((await classify(server.url, CAT, PATIENT)).status).toBe(200);

/** Waits until so many requests are in the metrics with this outcome. */
async function counted(outcome: string, count = 1): Promise<void> {
  const line = `depthserve_requests_total{tier="none",outcome="${outcome}"} ${count}\n`;
  while (!(await scrape(server.url)).includes(line)) await sleep(20);
}

it('a head that does not end is answered 408, and the connection closed', async () => {
  server = await startServer({ HEAD_TIMEOUT_MS: '500' });
  const socket = open('GET /model HTTP/1.1\r\nHost: x\r\nX-Slow: ');
  const dripping = setInterval(() => socket.write('a'), 50);
  // A drip that meets the closed connection is told so by an error; what was received stays.
  await new Promise((resolve) => socket.once('close', resolve));
  clearInterval(dripping);
  expect(socket.received).toMatch(/^HTTP\/1\.1 408 .*"code":"request-timeout"/s);
  expect(socket.received).toContain('The request took too long. Send the whole request faster.');
  await answersWell();
});

it('a body that does not end is answered 408, and the connection closed', async () => {
  server = await startServer({ HEAD_TIMEOUT_MS: '500', REQUEST_TIMEOUT_MS: '1000' });
  const socket = open(head(100_000));
  const dripping = setInterval(() => socket.write('a'), 50);
  // A drip that meets the closed connection is told so by an error; what was received stays.
  await new Promise((resolve) => socket.once('close', resolve));
  clearInterval(dripping);
  expect(socket.received).toMatch(/^HTTP\/1\.1 408 .*"code":"request-timeout"/s);
  await counted('request-timeout');
  await answersWell();
});

it('an upload that is given up is counted, and nobody is alarmed', async () => {
  server = await startServer();
  const cancelled = async () =>
    Number(/outcome="cancelled"\} (\d+)/.exec(await scrape(server.url))?.[1] ?? 0);
  for (const [type, path] of [
    ['image/jpeg', '/classify'],
    ['multipart/form-data; boundary=b', '/classify'],
    ['application/json', '/v2/models/cifar10-small-resnet/infer'],
  ] as const) {
    const before = await cancelled();
    // A busy server may not have read the head yet: then there is nothing to be counted, or later.
    let tries = 0;
    for (let pause = 100; (await cancelled()) === before; pause *= 2) {
      expect(pause).toBeLessThan(10_000);
      tries++;
      const socket = open(head(100_000).replace('image/jpeg', type).replace('/classify', path));
      socket.write('--b\r\n');
      await sleep(pause);
      socket.resetAndDestroy();
      await sleep(pause);
    }
    expect((await cancelled()) - before, 'each once').toBeLessThanOrEqual(tries);
  }
  expect(server.log()).not.toMatch(/"level":50/);
  await answersWell();
});

it('a thousand idle connections keep nobody from being answered', async () => {
  server = await startServer();
  await Promise.all(Array.from({ length: 1000 }, () => once(open(), 'connect')));
  await answersWell();
});

it('connections beyond the limit are closed, those within it served', async () => {
  server = await startServer({ MAX_CONNECTIONS: '20' });
  const early = open('GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(early, 'data');
  const others = Array.from({ length: 30 }, () => open());
  const closed = () => others.filter((socket) => socket.destroyed).length;
  while (closed() < 10) await sleep(20);
  early.write('GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(early, 'data');
  expect(early.received!.match(/HTTP\/1\.1 200/g)).toHaveLength(2);
});

const GZIP = 'image/jpeg\r\nContent-Encoding: gzip';
const FORM = 'multipart/form-data; boundary=b\r\nContent-Encoding: gzip';
const PART = '--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n';
/** All that zlib has been given, without an end. */
const packed = (bytes: Buffer) => gzipSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH });

it.each([
  ['as they are', 'image/jpeg', Buffer.alloc(140_000)],
  ['unpacked', GZIP, packed(Buffer.alloc(140_000))],
  ['unpacked, in forms', FORM, packed(Buffer.concat([Buffer.from(PART), Buffer.alloc(140_000)]))],
])(
  'bodies that are held, %s, are bounded together: 503 overloaded beyond',
  async (_how, type, sent) => {
    server = await startServer({ MAX_BYTES_IN_FLIGHT: '300000', REQUEST_TIMEOUT_MS: '2000' });
    // Two that send most of what they announce, and then nothing.
    const stall = () => open(head(sent.length + 1000).replace('image/jpeg', type)).write(sent);
    stall();
    stall();
    const large = Buffer.concat([CAT, Buffer.alloc(100_000)]);
    const refused = async () => {
      const { status, body } = await classify<Problem>(server.url, large, PATIENT);
      return status === 503 && body.code === 'overloaded';
    };
    // One of the two is refused itself, if the large body comes before all of it.
    while (!(await refused())) stall();
    // Their bytes are given back when they are given up.
    while (await refused()) await sleep(50);
    expect((await classify(server.url, large, PATIENT)).status).toBe(200);
  },
);

it.each(['1', '2'])(
  'a client that does not read its answers is cut off, FRONTS=%s',
  async (FRONTS) => {
    server = await startServer({ FRONTS, REQUEST_TIMEOUT_MS: '1000' });
    const socket = open().pause();
    const request = 'GET /model HTTP/1.1\r\nHost: x\r\n\r\n';
    // More answers than the kernel takes.
    socket.write(request.repeat(900));
    // A client that does not read learns of the end by what it sends.
    const dripping = setInterval(() => socket.write(request), 50);
    await new Promise((resolve) => socket.once('close', resolve));
    clearInterval(dripping);
    await answersWell();
  },
);
