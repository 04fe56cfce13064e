import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { CAT } from './client.ts';
import { RawConnection } from './raw.ts';

let server: Server;
beforeAll(async () => {
  server = await startServer({ MAX_BODY_BYTES: '200000', DEFAULT_BUDGET_MS: '1000' });
});
afterAll(async () => {
  await server?.stop();
});

/** What the service says to a request, to the end of its JSON; a number waits so many ms. */
async function answerTo(...pieces: readonly (string | Buffer | number)[]): Promise<string> {
  const connection = await RawConnection.open(server.url);
  for (const piece of pieces) {
    await (typeof piece === 'number' ? sleep(piece) : connection.send(piece));
  }
  const text = await connection.received(/\}$/);
  connection.socket.destroy();
  return text;
}

const WAITS = ['Expect: 100-continue'];
const V2 = '/v2/models/cifar10-small-resnet/infer';

const head = (lines: readonly string[], length: number = CAT.length, path = '/classify') =>
  `POST ${path} HTTP/1.1\r\nHost: test\r\nContent-Type: image/jpeg\r\n` +
  `Content-Length: ${length}\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`;

describe('Expect: 100-continue', () => {
  it('goes on when the body is wanted', async () => {
    const connection = await RawConnection.open(server.url);
    await connection.send(head(['Expect: 100-continue', 'X-Latency-Budget-Ms: 60000']));
    expect(await connection.received(/\r\n\r\n$/)).toBe('HTTP/1.1 100 Continue\r\n\r\n');
    await connection.send(CAT);
    expect(await connection.received(/\}$/)).toMatch(/Continue\r\n\r\nHTTP\/1.1 200 /);
    connection.socket.destroy();
  });

  it.each([
    ['length', 413, head(['Expect: 100-continue'], 60_000_000)],
    ['budget', 400, head(['Expect: 100-continue', 'X-Latency-Budget-Ms: none'])],
    ['time', 503, head(['Expect: 100-continue', 'X-Latency-Budget-Ms: 0.01'])],
    ['time of v2', 503, head([...WAITS, 'X-Latency-Budget-Ms: 0.01'], 9, V2)],
    ['type', 415, head(['Expect: 100-continue']).replace('image/jpeg', 'text/plain')],
    ['encoding', 415, head(['Expect: 100-continue', 'Content-Encoding: zz'])],
    ['missing boundary', 400, head(WAITS).replace('image/jpeg', 'multipart/form-data')],
    ['query', 400, head(WAITS).replace('/classify', '/classify?topK=0')],
    ['route', 404, head(WAITS).replace('/classify', '/classification')],
    ['method', 405, head(WAITS).replace('/classify', '/model')],
    ['model', 404, head(WAITS).replace('/classify', '/v2/models/other/infer')],
    ['extension', 400, head(WAITS).replace('/classify', '/v2/repository/index')],
    ['length of the JSON', 400, head([...WAITS, 'Inference-Header-Content-Length: x'], 9, V2)],
    ['shorter body', 400, head([...WAITS, 'Inference-Header-Content-Length: 10'], 9, V2)],
  ])('is answered at once where the %s decides it: %i', async (_what, status, request) => {
    const text = await answerTo(request);
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(text).not.toContain('100 Continue');
  });

  it.each(['miracles', '100-continue, miracles'])(
    'another expectation, %s: 417 with a problem document',
    async (expectation) => {
      const text = await answerTo(head([`Expect: ${expectation}`]));
      expect(text).toMatch(/^HTTP\/1.1 417 /);
      expect(text).toContain('"code":"expectation-failed"');
    },
  );

  // RFC 9110, 10.1.1.
  it('is passed over by HTTP/1.0, which does not know it', async () => {
    const lines = ['Expect: 100-continue', 'X-Latency-Budget-Ms: 60000'];
    const text = await answerTo(head(lines).replace('HTTP/1.1', 'HTTP/1.0'), CAT);
    expect(text).toMatch(/^HTTP\/1.1 200 /);
  });

  // RFC 9112, 3.2.
  it.each([
    ['no Host', ''],
    ['more than one Host', 'Host: a\r\nHost: b\r\n'],
  ])('%s: 400 with a problem document', async (_what, hosts) => {
    const text = await answerTo(`GET /model HTTP/1.1\r\n${hosts}Connection: close\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1.1 400 /);
    expect(text).toContain('"code":"bad-request"');
  });
});

describe('a budget that nothing can be done within', () => {
  it.each([
    ['/classify', '"code":"budget-too-small"'],
    [V2, '"error":"budget-too-small: '],
  ])('%s: 503 before any of the body has come', async (path, told) => {
    const text = await answerTo(head(['X-Latency-Budget-Ms: 0.01'], CAT.length, path));
    expect(text).toMatch(/^HTTP\/1.1 503 /);
    expect(text).toContain(told);
  });
});

describe('an upload slower than its budget', () => {
  it.each([
    ['/classify', /"code":"deadline-passed"[^]*upload/],
    ['/v2/models/cifar10-small-resnet/infer', /"error":"deadline-passed: [^]*upload/],
  ])('%s: 504 when the budget runs out, though the body has not come', async (path, told) => {
    const connection = await RawConnection.open(server.url);
    const began = performance.now();
    await connection.send(
      head(['X-Latency-Budget-Ms: 300']).replace('/classify', path) + 'the first bytes',
    );
    expect(await connection.received(/\}$/)).toMatch(/^HTTP\/1.1 504 /);
    expect(connection.text).toMatch(told);
    // Not before.
    expect(performance.now() - began).toBeGreaterThanOrEqual(299);
    connection.socket.destroy();
  });

  it.each([
    ['its own', { parameters: { timeout: 1_000_000 } }],
    ['the usual one', {}],
  ])('v2: 504 when the budget in the body, %s, is used up', async (_which, more) => {
    const input = { name: 'image', shape: [1], datatype: 'BYTES', data: [CAT.toString('base64')] };
    const body = JSON.stringify({ inputs: [input], ...more });
    const [start, rest] = [body.slice(0, 9), body.slice(9)];
    // The budget is 1 s, of which a busy server sees less: it may read the head late.
    const text = await answerTo(head([], body.length, V2) + start, 2000, rest);
    expect(text).toMatch(/^HTTP\/1.1 504 [^]*"error":"deadline-passed: The upload/);
  });

  it.each(['/classify', '/v2/models/cifar10-small-resnet/infer'])(
    '%s: a client that is still sending is not cut off',
    async (path) => {
      const connection = await RawConnection.open(server.url);
      const body = Buffer.alloc(100_000, 'x');
      const request = [
        `POST ${path} HTTP/1.1`,
        'Host: localhost',
        'Content-Type: application/octet-stream',
        `Content-Length: ${body.length}`,
        'X-Latency-Budget-Ms: 300',
        '',
        '',
      ].join('\r\n');
      await connection.send(request);
      await connection.send(body.subarray(0, 100).toString());
      expect(await connection.received(/\}$/)).toMatch(/^HTTP\/1.1 504 /);
      await connection.send(body.subarray(100).toString());
      // The same connection goes on with the next request.
      await connection.send('GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n');
      expect(await connection.received(/HTTP\/1.1 200 /)).toContain('HTTP/1.1 504');
      connection.socket.destroy();
    },
  );
});

describe('told plainly', () => {
  const classify = async (image: Buffer, query = '') => {
    const answer = await fetch(`${server.url}/classify${query}`, {
      method: 'POST',
      body: new Uint8Array(image),
      headers: { 'content-type': 'image/jpeg', 'x-latency-budget-ms': '5000' },
    });
    return { status: answer.status, json: (await answer.json()) as Record<string, string> };
  };

  it('an unknown query parameter: 400, by its name', async () => {
    const { status, json } = await classify(CAT, '?topk=1');
    expect(status).toBe(400);
    expect(json['detail']).toContain('"topk"');
  });

  it('a JPEG that is damaged in the middle is answered, with a warning', async () => {
    const image = await sharp(CAT).resize(200, 200).jpeg().toBuffer();
    const garbled = Buffer.from(image);
    garbled.fill(0x55, image.length >> 1, (image.length >> 1) + 40);
    const { status, json } = await classify(garbled);
    expect(status).toBe(200);
    expect(json['warning']).toContain('damaged');
    expect((await classify(image)).json['warning']).toBeUndefined();
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(metrics).toMatch(/^depthserve_damaged_images_total\{.*\} 1$/m);
  });
});
