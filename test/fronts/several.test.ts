import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { once } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import { countFronts } from '../../src/fronts/count.ts';
import { readConfig } from '../../src/config.ts';
import { CAT, classify, scrape } from '../http/client.ts';
import { RawConnection, bytesOf } from '../http/raw.ts';
import { failedStart, startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { lacks } from '../tools.ts';

const FRONTS = '2';
/** Threads share a port with Node 22.12 or newer, so an older one has a newer one run the server. */
const isShared = countFronts(readConfig({ FRONTS })).threads === 2;
const node = isShared ? process.execPath : 'node24';
const RELAXED = { 'x-latency-budget-ms': '20000' };
const CLASSIFY = bytesOf(
  ['POST /classify HTTP/1.1', 'Content-Type: image/jpeg', 'X-Latency-Budget-Ms: 20000'],
  CAT,
);
/** The same without its body, which waits to be asked for. */
const HEAD = bytesOf(
  [
    'POST /classify HTTP/1.1',
    'Content-Type: image/jpeg',
    'X-Latency-Budget-Ms: 20000',
    'Expect: 100-continue',
  ],
  CAT,
).subarray(0, -CAT.length);
/** So many connections hardly ever all come to one of two fronts. */
const SEVERAL = 16;

let server: Server | undefined;
afterEach(async () => {
  await server?.stop();
});

const open = (url: string) =>
  Promise.all(Array.from({ length: SEVERAL }, () => RawConnection.open(url)));

describe.skipIf(process.platform !== 'linux' || (!isShared && lacks(node)))(
  'several fronts',
  () => {
    it('share the port, and count together what became of requests', async () => {
      server = await startServer({ FRONTS }, { node });
      const connections = await open(server.url);
      for (const connection of connections) await connection.send(CLASSIFY);
      for (const connection of connections) {
        expect(await connection.received(/"predictions"/)).toContain('200 OK');
      }
      const answered = async () => {
        const text = await scrape(server!.url);
        const counts = text.matchAll(/requests_total\{.*outcome="(?:met|late)"\} (\d+)/g);
        return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
      };
      // What has become of a request, a front tells a little later than the client.
      await expect.poll(answered).toBe(SEVERAL);
      expect(server.log().match(/Server listening/g)).toHaveLength(2);
    });

    it('answer what has come when the server is stopped, each on its connections', async () => {
      server = await startServer({ FRONTS }, { node });
      const connections = await open(server.url);
      // Asked for its body, a request is known to be under way: every front has some.
      for (const connection of connections) {
        await connection.send(HEAD);
        await connection.received(/100 Continue/);
      }
      const stopped = server.stop();
      await expect.poll(() => server!.log()).toContain('draining');
      for (const connection of connections) await connection.send(CAT);
      for (const connection of connections) {
        expect(await connection.ended()).toMatch(/HTTP\/1\.1 200 OK[^]*Connection: close/i);
      }
      expect(await stopped).toBe(0);
    });

    it('hold no more connections together than there may be', async () => {
      server = await startServer({ FRONTS, MAX_CONNECTIONS: '10' }, { node });
      const { hostname, port } = new URL(server.url);
      const sockets: Socket[] = [];
      for (let i = 0; i < 2 * 10; i++) {
        const socket = connect(Number(port), hostname).on('error', () => {});
        await once(socket, 'connect');
        sockets.push(socket);
      }
      const isOpen = ({ closed, readableEnded }: Socket) => !closed && !readableEnded;
      for (const socket of sockets) socket.resume();
      await expect.poll(() => sockets.filter(isOpen).length).toBeLessThanOrEqual(10);
      for (const socket of sockets) socket.destroy();
      await expect
        .poll(() => classify(server!.url, CAT, RELAXED).catch(() => null))
        .toMatchObject({ status: 200 });
    });

    it('hold no more bytes together than there may be', async () => {
      server = await startServer({ FRONTS, MAX_BYTES_IN_FLIGHT: String(4 * CAT.length) }, { node });
      const connections = await open(server.url);
      const all = CLASSIFY.length - 1;
      for (const connection of connections) await connection.send(CLASSIFY.subarray(0, all));
      await expect
        .poll(() => connections.filter(({ text }) => text.includes('"overloaded"')).length)
        .toBeGreaterThanOrEqual(SEVERAL - 4);
      for (const connection of connections) connection.socket.destroy();
      await expect.poll(async () => (await classify(server!.url, CAT, RELAXED)).status).toBe(200);
    });

    it('do not share the port with another server', async () => {
      server = await startServer({ FRONTS }, { node });
      const { port } = new URL(server.url);
      const { code, output } = await failedStart({ FRONTS, PORT: port, HOST: '127.0.0.1' }, node);
      expect(code).toBe(1);
      expect(output).toContain(`port ${port} is in use`);
    });
  },
);

describe('one front, where several are set', () => {
  /** Node 20 has no `reusePort`: this says so of whichever Node runs the tests. */
  const OF_NODE_20 =
    'data:text/javascript,Object.defineProperty(process,"versions",' +
    '{value:{...process.versions,node:"20.19.0"}})';

  it.each([
    ['this Node cannot share a port', {}, ['--import', OF_NODE_20], /Linux only, with Node 22\.12/],
    [
      'a setting keeps them on the main thread',
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' },
      [],
      /^OTEL_EXPORTER_OTLP_ENDPOINT is set$/,
    ],
  ])(
    'because %s: the log says why, and requests are answered',
    async (_why, env, nodeOptions, reason) => {
      server = await startServer({ FRONTS, ...env }, { nodeOptions });
      expect((await classify(server.url, CAT, RELAXED)).status).toBe(200);
      expect(server.log().match(/Server listening/g)).toHaveLength(1);
      const line = server
        .log()
        .split('\n')
        .find((text) => text.includes('"one front"'));
      expect(JSON.parse(line ?? '{}')).toMatchObject({
        wanted: 2,
        reason: expect.stringMatching(reason),
      });
    },
  );
});
