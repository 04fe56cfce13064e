import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { originsOf } from '../../src/http/cors.ts';
import { launchBrowser, noBrowser } from '../browser.ts';
import { failedStart, startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { CAT } from './client.ts';
import { RawConnection } from './raw.ts';

const PREFLIGHT = {
  'access-control-request-method': 'POST',
  'access-control-request-headers': 'content-type,x-latency-budget-ms',
};

function ask(server: Server, origin: string | null, headers: Record<string, string> = PREFLIGHT) {
  return fetch(`${server.url}/classify`, {
    method: 'OPTIONS',
    headers: { ...(origin !== null && { origin }), ...headers },
  });
}

const names = (answer: Response, header: string) =>
  (answer.headers.get(`access-control-${header}`) ?? '').toLowerCase().split(/, ?/);

describe('by default', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer({}, { untilReady: false });
  });
  afterAll(() => server?.stop());

  it('no origin is allowed', async () => {
    const answer = await ask(server, 'https://app.example');
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'POST']);
    const model = await fetch(`${server.url}/model`, { headers: { origin: 'https://a.example' } });
    expect(model.headers.get('access-control-allow-origin')).toBeNull();
  });
});

describe('with CORS_ORIGINS', () => {
  let folder: string;
  let server: Server;
  const page = createServer((_request, answer) => {
    answer.setHeader('content-type', 'text/html').end('<title>another origin</title>');
  }).listen(0, '127.0.0.1');
  const pageUrl = () => `http://127.0.0.1:${(page.address() as AddressInfo).port}`;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'depthserve-cors-'));
    const sha256 = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'; // of "test"
    await writeFile(
      join(folder, 'tokens.json'),
      JSON.stringify({ tokens: [{ name: 'page', sha256 }] }),
    );
    server = await startServer({
      CORS_ORIGINS: `https://App.example/, ${pageUrl()}`,
      TOKENS_FILE: join(folder, 'tokens.json'),
    });
  });
  afterAll(async () => {
    page.close();
    await server?.stop();
    await rm(folder, { recursive: true });
  });

  it('a preflight needs no token, and allows what the service reads', async () => {
    const answer = await ask(server, 'https://app.example');
    expect(answer.status).toBe(204);
    expect(answer.headers.get('access-control-allow-origin')).toBe('https://app.example');
    expect(answer.headers.get('vary')).toContain('Origin');
    expect(names(answer, 'allow-methods')).toEqual(expect.arrayContaining(['get', 'post']));
    expect(names(answer, 'allow-headers')).toEqual(
      expect.arrayContaining(['authorization', 'content-type', 'x-latency-budget-ms']),
    );
  });

  it('answers expose what the service writes, errors too', async () => {
    const answer = await fetch(`${server.url}/classify`, {
      method: 'POST',
      headers: { origin: 'https://app.example' },
    });
    expect(answer.status).toBe(401);
    expect(answer.headers.get('access-control-allow-origin')).toBe('https://app.example');
    expect(names(answer, 'expose-headers')).toEqual(
      expect.arrayContaining(['x-request-id', 'retry-after', 'x-sub-network', 'server-timing']),
    );
  });

  it.each([
    ['https://app.example.evil.example', PREFLIGHT],
    ['http://app.example', PREFLIGHT],
    ['null', PREFLIGHT],
    [null, {}],
  ])('origin %s is answered as ever', async (origin, headers) => {
    const answer = await ask(server, origin, { authorization: 'Bearer test', ...headers });
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'POST']);
    expect(answer.headers.get('access-control-allow-origin')).toBeNull();
  });

  it.skipIf(noBrowser)('a page of that origin classifies, and reads the answer', async () => {
    const browser = await launchBrowser();
    try {
      const tab = await (await browser.context({})).newPage();
      await tab.goto(pageUrl());
      const outcome = await tab.evaluate(
        async ([url, image]) => {
          const answer = await fetch(`${url}/classify`, {
            method: 'POST',
            body: Uint8Array.from(atob(image!), (char) => char.charCodeAt(0)),
            headers: {
              'content-type': 'image/jpeg',
              authorization: 'Bearer test',
              'x-latency-budget-ms': '60000',
              'x-request-id': 'from-a-page',
            },
          });
          const { id } = (await answer.json()) as { id: string };
          const read = ['x-request-id', 'x-sub-network'].map((name) => answer.headers.get(name));
          return { status: answer.status, id, read };
        },
        [server.url, CAT.toString('base64')],
      );
      expect(outcome).toEqual({
        status: 200,
        id: 'from-a-page',
        read: ['from-a-page', expect.stringMatching(/^[TF]{4}$/)],
      });
    } finally {
      await browser.close();
    }
  });
});

it('CORS_ORIGINS=* is for every origin', async () => {
  const server = await startServer({ CORS_ORIGINS: '*' }, { untilReady: false });
  const answer = await ask(server, 'https://anyone.example');
  expect(answer.headers.get('access-control-allow-origin')).toBe('https://anyone.example');
  // As of a client that leaves its value out.
  const connection = await RawConnection.open(server.url);
  await connection.send('GET /health/live HTTP/1.1\r\nHost: test\r\nOrigin: \r\n\r\n');
  expect(await connection.received(/\r\n\r\n/)).toMatch(/^HTTP\/1.1 200 /);
  connection.socket.destroy();
  expect(await server.stop()).toBe(0);
});

describe('what is no origin is refused at the start', () => {
  it('by the setting and the name', async () => {
    const { code, output } = await failedStart({ CORS_ORIGINS: 'app.example' });
    expect([code, output]).toEqual([
      2,
      expect.stringContaining('depthserve: CORS_ORIGINS: app.example is no origin'),
    ]);
  });

  it.each(['https://app.example/path', 'ftp://app.example', 'https://*.example'])('%s', (name) => {
    expect(() => originsOf(`http://localhost:3000, ${name}`)).toThrow(
      `CORS_ORIGINS: ${name} is no`,
    );
  });
});
