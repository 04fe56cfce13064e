import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { cancelledIn, scrape } from './client.ts';
import { RawConnection, bytesOf } from './raw.ts';

let server: Server;
beforeAll(async () => {
  server = await startServer({ MAX_BODY_BYTES: '1000000' });
});
afterAll(() => server?.stop());

describe('a body that nobody asked for', () => {
  const large = Buffer.alloc(300_000);
  it.each([
    ['of GET', ['GET /health/live HTTP/1.1'], large],
    [
      'of GET, packed',
      ['GET /health/live HTTP/1.1', 'Content-Encoding: gzip'],
      gzipSync(randomBytes(300_000)),
    ],
    ['of no type', ['POST /feedback HTTP/1.1'], large],
    ['for no route', ['POST /nothing HTTP/1.1'], large],
    ['of GET /classify', ['GET /classify HTTP/1.1'], large],
  ])('does not keep its connection from the next request: %s', async (_, head, body) => {
    const connection = await RawConnection.open(server.url);
    await connection.send(bytesOf(head, body));
    await connection.received(/HTTP\/1\.1 \d/);
    if (!/connection: close/i.test(connection.text)) {
      await connection.send('GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n');
      await connection.received(/HTTP\/1\.1 \d[^]*HTTP\/1\.1 200/);
    }
    connection.socket.destroy();
  });
});

describe('a body that is too large by what its head says', () => {
  const head = (more: string) =>
    'POST /classify HTTP/1.1\r\nHost: test\r\nContent-Type: image/jpeg\r\n' +
    `${more}Content-Length: 1000001\r\n\r\n`;
  const next = 'GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n';

  it('is answered before it has come, and its connection goes on', async () => {
    const connection = await RawConnection.open(server.url);
    await connection.send(head('') + 'the first bytes');
    await connection.received(/^HTTP\/1\.1 413 [^]*"body-too-large"/);
    await connection.send(Buffer.alloc(1_000_001 - 'the first bytes'.length));
    await connection.send(next);
    await connection.received(/HTTP\/1\.1 413[^]*HTTP\/1\.1 200/);
    connection.socket.destroy();
  });

  it('is read first where the answer closes the connection: a reset would hide that', async () => {
    const connection = await RawConnection.open(server.url);
    await connection.send(head('Connection: close\r\n'));
    await sleep(200);
    expect(connection.text).toBe('');
    await connection.send(Buffer.alloc(1_000_001));
    expect(await connection.ended()).toMatch(/^HTTP\/1\.1 413 /);
  });
});

it.each([
  ['ends its side', (connection: RawConnection) => void connection.socket.end()],
  ['closes', (connection: RawConnection) => void connection.socket.destroy()],
])('a client that %s in the middle of a body has cancelled', async (_what, goAway) => {
  const cancelled = async () => cancelledIn(await scrape(server.url));
  const before = await cancelled();
  const connection = await RawConnection.open(server.url);
  await connection.send(
    'POST /classify HTTP/1.1\r\nHost: test\r\nX-Latency-Budget-Ms: 60000\r\n' +
      'Content-Type: image/jpeg\r\nContent-Length: 5000\r\n\r\nthe first bytes',
  );
  await sleep(200);
  goAway(connection);
  await vi.waitFor(async () => expect(await cancelled()).toBe(before + 1), 5000);
});
