import { connect } from 'node:net';
import { once } from 'node:events';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { CAT, classify, classifyForm, scrape } from './client.ts';
import type { Problem, Reply } from './client.ts';
import { RawConnection } from './raw.ts';

const MAX_BODY_BYTES = 200_000;
const MAX_IMAGE_PIXELS = 1_000_000;

describe('errors of POST /classify', () => {
  let server: Server;

  beforeAll(async () => {
    server = await startServer({
      MAX_BODY_BYTES: String(MAX_BODY_BYTES),
      MAX_IMAGE_PIXELS: String(MAX_IMAGE_PIXELS),
      MAX_IMAGES_PER_REQUEST: '3',
      // On a busy machine the usual one may run out before the error shows.
      DEFAULT_BUDGET_MS: '20000',
    });
  });
  afterAll(async () => {
    // Whatever was sent, the same process still answers.
    expect((await classify(server.url, CAT, { 'x-latency-budget-ms': '20000' })).status).toBe(200);
    await server.stop();
  });

  const send = (image: Uint8Array, headers: Record<string, string> = {}) =>
    classify<Problem>(server.url, image, headers);

  function expectProblem(reply: Reply<Problem>, status: number, code: string): void {
    expect(reply.body).toMatchObject({ status, code, type: `urn:depthserve:error:${code}` });
    expect(reply.status).toBe(status);
    expect(reply.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(reply.body.requestId).toBe(reply.headers.get('x-request-id'));
    // What happened and what to do: two sentences.
    expect(reply.body.detail).toMatch(/\. \S.*\.$/);
  }

  it('a header behind a thousand others counts', async () => {
    const others = Object.fromEntries(Array.from({ length: 1500 }, (_, i) => [`a${i}`, 'b']));
    const reply = await send(CAT, { ...others, 'x-latency-budget-ms': 'soon' });
    expectProblem(reply, 400, 'bad-budget');
  });

  it('no body: 400 no-image', async () => {
    expectProblem(await send(new Uint8Array()), 400, 'no-image');
  });

  it('refused before its body is read: the headers that every answer has', async () => {
    const [refused, answered] = [
      await send(CAT, { 'x-latency-budget-ms': '0.1' }),
      await send(CAT),
    ];
    expectProblem(refused, 503, 'budget-too-small');
    const common = [...answered.headers.keys()].filter((name) => /^x-|policy$/.test(name));
    expect(common).toContain('x-content-type-options');
    for (const name of common.filter((each) => each !== 'x-sub-network')) {
      expect(refused.headers.has(name), name).toBe(true);
    }
    expect(refused.headers.get('content-length')).toBeTruthy();
  });

  it('multipart without the field "image": 400 no-image', async () => {
    expectProblem(await classifyForm(server.url, [CAT], {}, 'photo'), 400, 'no-image');
  });

  it('bytes that are no image: 422 not-an-image', async () => {
    expectProblem(await send(Buffer.from('hello, world')), 422, 'not-an-image');
  });

  it('an image of another format: 422 not-an-image', async () => {
    expectProblem(await send(await sharp(CAT).gif().toBuffer()), 422, 'not-an-image');
    expectProblem(
      await send(Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>')),
      422,
      'not-an-image',
    );
  });

  it('an image header followed by rubbish: 422 not-an-image', async () => {
    const rubbish = Buffer.concat([CAT.subarray(0, 3), Buffer.alloc(500, 0x5a)]);
    expectProblem(await send(rubbish), 422, 'not-an-image');
  });

  it.each(['jpeg', 'png', 'webp'] as const)(
    'a %s cut in half: 422 truncated-image',
    async (format) => {
      const whole = await sharp(CAT).resize(200).toFormat(format).toBuffer();
      const half = whole.subarray(0, whole.length >> 1);
      expectProblem(await send(half), 422, 'truncated-image');
    },
  );

  it('one bad file among good ones: 422', async () => {
    expectProblem(await classifyForm(server.url, [CAT, Buffer.from('x')]), 422, 'not-an-image');
  });

  it('too many bytes: 413 body-too-large', async () => {
    const large = Buffer.concat([CAT, Buffer.alloc(MAX_BODY_BYTES)]);
    expectProblem(await send(large), 413, 'body-too-large');
    expectProblem(await classifyForm(server.url, [large]), 413, 'body-too-large');
  });

  it('too many bytes over several files: 413 body-too-large', async () => {
    const padded = Buffer.concat([CAT, Buffer.alloc(MAX_BODY_BYTES / 2)]);
    expectProblem(await classifyForm(server.url, [padded, padded]), 413, 'body-too-large');
  });

  it('too many pixels: 413 too-many-pixels', async () => {
    const bomb = await sharp({
      create: { width: 1001, height: 1000, channels: 3, background: '#000000' },
    })
      .png()
      .toBuffer();
    expectProblem(await send(bomb), 413, 'too-many-pixels');
    // Of which libjpeg-turbo would take more.
    const plain = await sharp(bomb).jpeg().toBuffer();
    expectProblem(await send(plain), 413, 'too-many-pixels');
  });

  it('too many files: 413 too-many-images', async () => {
    const tiny = await sharp(CAT).resize(16).jpeg().toBuffer();
    expectProblem(await classifyForm(server.url, [tiny, tiny, tiny, tiny]), 413, 'too-many-images');
  });

  it.each(['0', '-5', 'NaN', 'Infinity', '1e3', 'soon', '', '3600001', '5, 6'])(
    'budget %j: 400 bad-budget',
    async (budget) => {
      expectProblem(await send(CAT, { 'x-latency-budget-ms': budget }), 400, 'bad-budget');
    },
  );

  it.each(['-0.1', '1.1', 'high', ''])('accuracy floor %j: 400 bad-min-accuracy', async (floor) => {
    expectProblem(await send(CAT, { 'x-min-accuracy': floor }), 400, 'bad-min-accuracy');
  });

  it('an accuracy that no sub-network has: 422 accuracy-unavailable', async () => {
    expectProblem(await send(CAT, { 'x-min-accuracy': '1' }), 422, 'accuracy-unavailable');
  });

  it.each(['0', '-1', '1.5', 'all', 'Infinity', '-Infinity', '1001', '1&topK=2'])(
    'topK=%s: 400 bad-request, which says what is taken',
    async (topK) => {
      const reply = await classify<Problem>(server.url, CAT, {}, `?topK=${topK}`);
      expectProblem(reply, 400, 'bad-request');
      expect(reply.body.detail).toContain('Send topK once, as a whole number from 1 to 1000.');
    },
  );

  it('an impossible budget: 503 with the smallest that would have worked', async () => {
    const reply = await send(CAT, { 'x-latency-budget-ms': '0.01' });
    expectProblem(reply, 503, 'budget-too-small');
    // The same budget would fail at any time.
    expect(reply.headers.has('retry-after')).toBe(false);
    expect(reply.body.smallestBudgetMs).toBeGreaterThan(0.01);
  });

  it('a media type that holds no image: 415 unsupported-media-type', async () => {
    for (const type of ['text/plain', 'application/json', 'image/gif', 'nonsense']) {
      expectProblem(await send(CAT, { 'content-type': type }), 415, 'unsupported-media-type');
    }
  });

  it('multipart that is none: 400 bad-multipart', async () => {
    const reply = await send(CAT, { 'content-type': 'multipart/form-data' });
    expectProblem(reply, 400, 'bad-multipart');
  });

  // With a smaller buffer than the part before it, @fastify/multipart waits for ever.
  it('multipart with a broken part behind a large one: 400, not waited for', async () => {
    const part = (name: string, body: Buffer) => [
      Buffer.from(`--b\r\nContent-Disposition: form-data; name="${name}"; filename="f"\r\n\r\n`),
      body,
      Buffer.from('\r\n'),
    ];
    const large = Buffer.concat([CAT, Buffer.alloc(50_000)]);
    const parts = [...part('image', large), ...part('\r', large), Buffer.from('--b--\r\n')];
    const headers = { 'content-type': 'multipart/form-data; boundary=b' };
    expectProblem(await send(Buffer.concat(parts), headers), 400, 'bad-multipart');
  });

  it('multipart with a thousand parts: 413 too-many-images', async () => {
    const tiny = '--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'.repeat(1000);
    const headers = { 'content-type': 'multipart/form-data; boundary=b' };
    expectProblem(await send(Buffer.from(`${tiny}--b--`), headers), 413, 'too-many-images');
  });

  it('an unknown route: 404 not-found', async () => {
    const reply = await fetch(`${server.url}/classification`);
    expect(reply.status).toBe(404);
    expect(await reply.json()).toMatchObject({ code: 'not-found' });
  });

  it('a method that the route does not have: 405 with the ones it has', async () => {
    const get = await fetch(`${server.url}/classify`);
    expect(get.status).toBe(405);
    expect(get.headers.get('allow')).toBe('POST');
    expect(await get.json()).toMatchObject({ code: 'method-not-allowed' });
    const put = await fetch(`${server.url}/model`, { method: 'PUT', body: 'x' });
    expect(put.status).toBe(405);
    // Its route ends in a wildcard.
    const wild = await fetch(`${server.url}/docs/static/x`, { method: 'POST' });
    expect([wild.status, wild.headers.get('allow')]).toEqual([405, 'HEAD, GET']);
  });

  it.each([
    ['an unknown method', 'FOO', '/classify', 400, 'a method that is not known'],
    ['a URL of 20,000 characters', 'GET', `/${'a'.repeat(20_000)}`, 431, 'Send a shorter URL'],
  ])('%s: told as what it is', async (_what, method, path, status, told) => {
    const connection = await RawConnection.open(server.url);
    await connection.send(`${method} ${path} HTTP/1.1\r\nHost: test\r\n\r\n`);
    const answer = await connection.ended();
    expect(answer).toContain(`HTTP/1.1 ${status} `);
    expect(answer).toContain(told);
  });

  it('survives a client that hangs up in the middle of its upload', async () => {
    const { port } = new URL(server.url);
    const socket = connect(Number(port), '127.0.0.1');
    socket.write(
      'POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 90000\r\n\r\n',
    );
    socket.write(CAT.subarray(0, 1000));
    socket.destroy();
    await once(socket, 'close');
    expect((await fetch(`${server.url}/health/live`)).status).toBe(200);
  });

  it('counts every refusal by its code', async () => {
    const counted = async (code: string) => {
      const line = `depthserve_requests_total\\{tier="none",outcome="${code}"\\} (\\d+)`;
      return Number(new RegExp(line).exec(await scrape(server.url))?.[1] ?? 0);
    };
    const [images, budgets] = [await counted('not-an-image'), await counted('bad-budget')];
    await send(Buffer.from('not an image'));
    await send(CAT, { 'x-latency-budget-ms': 'soon' });
    await send(CAT, { 'x-latency-budget-ms': '-1' });
    // Counted after the answer has left.
    await expect
      .poll(async () => [await counted('not-an-image'), await counted('bad-budget')])
      .toEqual([images + 1, budgets + 2]);
  });
});
