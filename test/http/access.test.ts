import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { failedStart, freePorts, startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { CAT, classify } from './client.ts';
import type { Problem } from './client.ts';
import { RawConnection, bytesOf } from './raw.ts';

const PATIENT = { 'x-latency-budget-ms': '60000' };

let folder: string;
let file: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'depthserve-'));
  file = join(folder, 'tokens.json');
  return () => rm(folder, { recursive: true });
});

const hashed = (token: string) => createHash('sha256').update(token).digest('hex');
const write = (tokens: readonly object[]) => writeFile(file, JSON.stringify({ tokens }));

describe('with tokens', () => {
  let server: Server;
  beforeAll(async () => {
    await write([
      { name: 'free', sha256: hashed('free-token') },
      { name: 'slow', sha256: hashed('slow-token'), perSecond: 0.01 },
      { name: 'narrow', sha256: hashed('narrow-token'), atOnce: 1 },
    ]);
    server = await startServer({ TOKENS_FILE: file, INTERNAL_PORT: '0' });
  });
  afterAll(() => server.stop());

  const ask = (token: string | null, image: Uint8Array = CAT) =>
    classify<Problem>(server.url, image, {
      ...PATIENT,
      ...(token !== null && { authorization: `Bearer ${token}` }),
    });
  const status = async (path: string, headers: Record<string, string> = {}) =>
    (await fetch(`${server.url}${path}`, { headers })).status;

  it('a request with a known token is answered', async () => {
    expect((await ask('free-token')).status).toBe(200);
  });

  it.each([null, 'wrong-token', '', 'free-tokenx', hashed('free-token')])(
    'one with %j is not: 401 unauthorized',
    async (token) => {
      const { status, body, headers } = await ask(token);
      expect([status, body.code]).toEqual([401, 'unauthorized']);
      expect(headers.get('content-type')).toMatch(/^application\/problem\+json/);
      expect(headers.get('www-authenticate')).toBe('Bearer');
    },
  );

  it.each(['Basic free-token', 'free-token', 'Bearer free-token x'])(
    'nor is one with the header %j',
    async (authorization) => {
      expect(await status('/model', { authorization })).toBe(401);
    },
  );

  it('all routes need one but health and the files of the page', async () => {
    for (const path of ['/model', '/metrics', '/docs/json', '/live', '/v2', '/nowhere']) {
      expect([path, await status(path)]).toEqual([path, 401]);
    }
    for (const path of ['/health/live', '/health/ready', '/v2/health/ready', '/', '/main.js']) {
      expect([path, await status(path)]).toEqual([path, 200]);
    }
    expect(await status('/model', { authorization: 'bearer free-token' })).toBe(200);
  });

  it('only those who have one are told the load', async () => {
    const loadAt = async (path: string, headers: Record<string, string> = {}) => {
      const asked = { 'endpoint-load-metrics-format': 'text' };
      const answer = await fetch(`${server.url}${path}`, { headers: { ...asked, ...headers } });
      return answer.headers.get('endpoint-load-metrics');
    };
    for (const path of ['/model', '/nowhere', '/health/live']) {
      expect([path, await loadAt(path)]).toEqual([path, null]);
    }
    expect(await loadAt('/model', { authorization: 'Bearer free-token' })).toMatch(/^TEXT /);
  });

  it('v2 says so in its own form', async () => {
    const answer = await fetch(`${server.url}/v2/models/x/infer`, { method: 'POST' });
    expect(answer.status).toBe(401);
    expect(await answer.json()).toEqual({ error: expect.stringMatching(/^unauthorized: /) });
  });

  it('more requests a second than the token may send: 429 with Retry-After', async () => {
    expect((await ask('slow-token')).status).toBe(200);
    const { status, body, headers } = await ask('slow-token');
    expect([status, body.code]).toEqual([429, 'too-many-requests']);
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(60);
    // Nobody else suffers.
    expect((await ask('free-token')).status).toBe(200);
  });

  it('more requests at once than the token may have: 429; its place is given back', async () => {
    const first = await RawConnection.open(server.url);
    const head = [
      'POST /classify HTTP/1.1',
      'Authorization: Bearer narrow-token',
      'X-Latency-Budget-Ms: 60000',
      'Content-Type: image/jpeg',
      'Expect: 100-continue',
    ];
    const request = bytesOf(head, CAT);
    const body = request.length - CAT.length;
    await first.send(request.subarray(0, body));
    // It is under way until its body has come.
    await first.received(/100 Continue/);
    expect((await ask('narrow-token')).status).toBe(429);
    await first.send(request.subarray(body));
    await first.received(/HTTP\/1\.1 200 OK/);
    first.socket.destroy();
    // Given back by a failed request, too.
    while ((await ask('narrow-token', Buffer.from('no image'))).status === 429) await sleep(20);
    while ((await ask('narrow-token')).status !== 200) await sleep(20);
  });

  it('the file is read again when it changes; a broken one changes nothing', async () => {
    await write([{ name: 'new', sha256: hashed('new-token') }]);
    while ((await ask('new-token')).status !== 200) await sleep(100);
    expect((await ask('free-token')).status).toBe(401);

    await writeFile(file, '{"tokens": [');
    while (!server.log().includes('the old ones stay in force')) await sleep(100);
    expect((await ask('new-token')).status).toBe(200);
  });

  it('no token is in the log', () => {
    expect(server.log()).not.toMatch(/-token/);
  });
});

it.each([
  ['no file', null, /TOKENS_FILE: .*: there is no such file/],
  ['no JSON', 'secret', /TOKENS_FILE: .* it is no JSON/],
  ['a token in the clear', '{"tokens":[{"name":"a","sha256":"secret"}]}', /sha256 must match/],
])('refuses to start with %s', async (_case, content, why) => {
  const path = join(folder, 'wrong.json');
  if (content !== null) await writeFile(path, content);
  const { code, output } = await failedStart({ TOKENS_FILE: path, EXECUTION_PROVIDER: 'cpu' });
  expect(code).toBe(2);
  expect(output).toMatch(why);
  expect(output).not.toContain('secret');
});

describe('with a port of its own for operators', () => {
  it('metrics and docs are there, without a token, and nowhere else', async () => {
    await write([{ name: 'free', sha256: hashed('free-token') }]);
    const [port] = await freePorts(1);
    const server = await startServer({ TOKENS_FILE: file, INTERNAL_PORT: String(port) });
    const inside = `http://127.0.0.1:${port}`;
    const authorization = 'Bearer free-token';
    for (const path of ['/metrics', '/docs', '/docs/json']) {
      const outside = await fetch(`${server.url}${path}`, { headers: { authorization } });
      expect([path, outside.status]).toEqual([path, 404]);
      expect((await fetch(`${inside}${path}`)).status).toBe(200);
    }
    const document = await fetch(`${inside}/docs/json`);
    expect(await document.json()).toHaveProperty('paths./classify');
    const elsewhere = await fetch(`${inside}/classify`, { method: 'POST' });
    expect(elsewhere.status).toBe(404);
    // Ids are made as on the other port, and a caller's own is taken.
    expect(elsewhere.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    const named = await fetch(`${inside}/nowhere`, { headers: { 'x-request-id': 'mine' } });
    expect(named.headers.get('x-request-id')).toBe('mine');
    // Callers are not sent to a page that is not on their port.
    const lost = await fetch(`${server.url}/nowhere`, { headers: { authorization } });
    const { detail } = (await lost.json()) as { detail: string };
    expect(detail).toContain('docs/openapi.json, shown at GET /docs where that is served,');
    expect((await fetch(`${server.url}/health/ready`)).status).toBe(200);
    expect(await server.stop()).toBe(0);
  });
});

describe('without any setting', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer({ MAX_BODY_BYTES: '1000000' });
  });
  afterAll(() => server.stop());

  it('answers say that nobody may sniff, frame or embed them', async () => {
    // The framework answers /%ff by itself.
    const answered = ['/', '/main.js', '/model', '/nowhere', '/docs/static/index.html', '/%ff'];
    for (const path of answered) {
      const { headers } = await fetch(`${server.url}${path}`);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('x-frame-options')).toBe('DENY');
      expect(headers.get('referrer-policy')).toBe('no-referrer');
    }
    const broken = await RawConnection.open(server.url);
    await broken.send('no request\r\n\r\n');
    expect(await broken.ended()).toMatch(/^HTTP\/1.1 400 [^]*x-content-type-options: nosniff/);
    for (const path of ['/', '/docs/static/index.html']) {
      const policy = (await fetch(`${server.url}${path}`)).headers.get('content-security-policy');
      expect(policy).toMatch(/default-src '(none|self)'/);
      expect(policy).not.toMatch(/unsafe|https:|upgrade-insecure-requests/);
    }
  });

  it('a body that unpacks to more than a body may have: 413', async () => {
    const bomb = gzipSync(Buffer.alloc(100_000_000));
    expect(bomb.length).toBeLessThan(1_000_000);
    const answer = await fetch(`${server.url}/v2/models/cifar10-small-resnet/infer`, {
      method: 'POST',
      body: bomb,
      headers: { 'content-encoding': 'gzip' },
    });
    expect(answer.status).toBe(413);
  });

  it('no byte of an image gets into the log, whatever becomes of it', async () => {
    const marked = Buffer.concat([CAT, Buffer.from('a-mark-in-the-image')]);
    await classify(server.url, marked, PATIENT);
    await classify(server.url, marked.subarray(4), PATIENT);
    await classify(server.url, Buffer.from('\xff\xd8\xff a-mark-in-the-image', 'latin1'), PATIENT);
    const input = { name: 'image', shape: [1], datatype: 'BYTES', data: ['YS1tYXJrLWluLXRoZQ=='] };
    await fetch(`${server.url}/v2/models/cifar10-small-resnet/infer`, {
      method: 'POST',
      body: JSON.stringify({ inputs: [input], id: 'seen' }),
    });
    // Lines are gathered for some ms. The first image is answered, the others are none.
    await expect.poll(() => server.log().match(/"outcome":"not-an-image"/g)?.length).toBe(3);
    expect(server.log()).not.toMatch(/a-mark-in-the|YS1tYXJr/);
  });
});

it('the manifests probe what needs no token', async () => {
  const deployment = await readFile('k8s/base/deployment.yaml', 'utf8');
  const probed = [...deployment.matchAll(/path: (\/[\w/]*health[\w/]*)/g)].map(([, path]) => path);
  expect(probed.length).toBeGreaterThan(1);
  for (const path of probed) expect(path).toMatch(/^\/health\/(live|ready)$/);
});
