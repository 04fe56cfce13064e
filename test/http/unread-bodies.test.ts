import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
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
