import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { CAT, cancelledIn, scrape } from './client.ts';
import { RawConnection, bytesOf, formOf } from './raw.ts';

let server: Server;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'depthserve-'));
  server = await startServer(
    { MAX_BATCH: '1', ENGINE_WORKERS: '1', FAULTS_FILE: join(folder, 'broken') },
    { nodeOptions: ['--import', './test/faults/preload.mjs'] },
  );
});
afterAll(async () => {
  await server?.stop();
  await rm(folder, { recursive: true });
});

const classify = (body: Buffer, type: string, version = '1.1') =>
  bytesOf(
    [`POST /classify HTTP/${version}`, `Content-Type: ${type}`, 'X-Latency-Budget-Ms: 600000'],
    body,
  );
const IMAGE = classify(CAT, 'image/jpeg');
/** Its first pixel makes `preload.mjs` wait for 3 s: meanwhile the connection is looked after. */
const SLOW = await sharp({
  create: { width: 32, height: 32, channels: 3, background: { r: 250, g: 0, b: 3 } },
})
  .png()
  .toBuffer();
const FORM = 'multipart/form-data; boundary=b';

describe('a client that ends its side after the request', () => {
  it('is answered, and the connection is closed', async () => {
    const connection = await RawConnection.open(server.url);
    connection.socket.end(IMAGE);
    expect(await connection.ended()).toMatch(/HTTP\/1\.1 200 OK\r\n[^]*"predictions"/);
  });

  it('is answered whatever it asked', async () => {
    const connection = await RawConnection.open(server.url);
    connection.socket.end('GET /model HTTP/1.1\r\nHost: test\r\n\r\n');
    expect(await connection.ended()).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*\}$/);
  });

  it('is answered by both answers if it sent two requests', async () => {
    const connection = await RawConnection.open(server.url);
    connection.socket.end(Buffer.concat([IMAGE, IMAGE]));
    expect((await connection.ended()).match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2);
  });

  it('is answered when it takes long, after one interim answer', async () => {
    const connection = await RawConnection.open(server.url);
    connection.socket.end(classify(SLOW, 'image/png'));
    expect(await connection.ended()).toMatch(
      /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/,
    );
  });

  it('gets no interim answer by HTTP/1.0, which has none', async () => {
    const connection = await RawConnection.open(server.url);
    connection.socket.end(classify(SLOW, 'image/png', '1.0'));
    expect(await connection.ended()).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  });

  it('in the middle of the body is told so', async () => {
    const connection = await RawConnection.open(server.url);
    connection.socket.end(IMAGE.subarray(0, IMAGE.length - 10));
    expect(await connection.ended()).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n[^]*no whole HTTP/);
  });
});

it('a client that has gone altogether is found out, and its images leave the queue', async () => {
  const cancelled = async () => cancelledIn(await scrape(server.url));
  const before = await cancelled();
  const connection = await RawConnection.open(server.url);
  // One at a time: two wait.
  await connection.send(classify(formOf([SLOW, SLOW, SLOW]), FORM));
  while ((await scrape(server.url)).includes('depthserve_queue_length 0\n')) await sleep(5);
  connection.socket.destroy();
  while ((await cancelled()) === before) await sleep(20);
  await expect.poll(() => scrape(server.url)).toContain('depthserve_queue_length 0\n');
});
