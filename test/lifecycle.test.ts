import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { failedStart, startServer } from './server.ts';
import { CAT, classify } from './http/client.ts';
import { RawConnection, bytesOf } from './http/raw.ts';

const SHIPPED = JSON.parse(readFileSync('models/cifar10/model.json', 'utf8')) as { input: object };
const UNFIT = /model\.onnx: its first run, with the input and the flags of its manifest, failed: ./;

describe('start', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'depthserve-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  async function copyOfModel(name: string): Promise<string> {
    const copy = join(folder, name);
    await cp('models/cifar10', copy, { recursive: true });
    return copy;
  }

  it('is live, but neither ready nor willing, until it has warmed up', async () => {
    const server = await startServer({}, { untilReady: false });
    expect((await fetch(`${server.url}/health/live`)).status).toBe(200);
    const ready = await fetch(`${server.url}/health/ready`);
    expect(ready.status).toBe(503);
    expect(await ready.json()).toMatchObject({ status: 'starting' });
    const reply = await classify<{ code: string }>(server.url, CAT);
    expect(reply).toMatchObject({ status: 503, body: { code: 'starting' } });
    expect(await server.stop()).toBe(0);
  });

  it('keeps what it measured in LATENCY_CACHE, and does without measuring the next time', async () => {
    const cache = join(folder, 'latencies');
    const first = await startServer({ LATENCY_CACHE: cache });
    await first.stop();
    expect(first.log()).toContain('"latencies":"measured"');
    const [file] = await readdir(cache);
    // As a machine of another speed would have measured it.
    const { on, table } = JSON.parse(await readFile(join(cache, file!), 'utf8'));
    // A machine that is busy now and then may take it for another.
    let isKept = false;
    for (let start = 0; start < 5 && !isKept; start++) {
      const next = await startServer({ LATENCY_CACHE: cache });
      await next.stop();
      isKept = next.log().includes('"latencies":"kept"');
    }
    expect(isKept).toBe(true);
    const slow = Object.entries<Record<string, number>>(table).map(([skip, row]) => [
      skip,
      Object.fromEntries(Object.entries(row).map(([size, ms]) => [size, 10 * ms])),
    ]);
    const wrong = JSON.stringify({ on, table: Object.fromEntries(slow) });
    await writeFile(join(cache, file!), wrong);
    const third = await startServer({ LATENCY_CACHE: cache });
    await third.stop();
    expect(third.log()).toContain('"latencies":"measured"');
    expect(await readFile(join(cache, file!), 'utf8')).not.toBe(wrong);
  });

  it('refuses a setting out of range, naming it', async () => {
    const { code, output } = await failedStart({ MAX_BATCH: '33' });
    expect(code).toBe(2);
    expect(output).toMatch(/^depthserve: .*MAX_BATCH/);
  });

  it('refuses EXECUTION_PROVIDER=cuda without CUDA, naming what is missing', async () => {
    const { code, output } = await failedStart({
      EXECUTION_PROVIDER: 'cuda',
      CUDA_VISIBLE_DEVICES: '',
    });
    expect(code).toBe(1);
    expect(output).toMatch(
      /depthserve: EXECUTION_PROVIDER=cuda, but CUDA did not load: .+docs\/cuda/,
    );
  });

  it('refuses a folder without a manifest', async () => {
    const { code, output } = await failedStart({ MODEL_DIR: folder });
    expect(code).toBe(1);
    expect(output).toMatch(/model\.json: there is no such file/);
  });

  it('refuses a manifest that breaks the schema, naming the field', async () => {
    const copy = await copyOfModel('schema');
    const manifest = JSON.parse(await readFile(join(copy, 'model.json'), 'utf8')) as object;
    await writeFile(join(copy, 'model.json'), JSON.stringify({ ...manifest, labels: 'cat' }));
    const { code, output } = await failedStart({ MODEL_DIR: copy });
    expect(code).toBe(1);
    expect(output).toMatch(/model\.json: .*labels/);
  });

  it('refuses a model file that is not the one of the manifest', async () => {
    const copy = await copyOfModel('corrupt');
    const bytes = await readFile(join(copy, 'model.onnx'));
    bytes[bytes.length >> 1]! ^= 1;
    await writeFile(join(copy, 'model.onnx'), bytes);
    const { code, output } = await failedStart({ MODEL_DIR: copy });
    expect(code).toBe(1);
    expect(output).toMatch(/model\.onnx: sha256 is/);
  });

  it('refuses a manifest that is no JSON', async () => {
    const copy = await copyOfModel('json');
    await writeFile(join(copy, 'model.json'), '{"schemaVersion": 1,');
    const { code, output } = await failedStart({ MODEL_DIR: copy });
    expect(code).toBe(1);
    expect(output).toMatch(/^depthserve: .*model\.json: .*JSON/);
  });

  it('refuses a folder without the model file that the manifest names', async () => {
    const copy = await copyOfModel('missing');
    await rm(join(copy, 'model.onnx'));
    const { code, output } = await failedStart({ MODEL_DIR: copy });
    expect(code).toBe(1);
    expect(output).toMatch(/^depthserve: .*model\.onnx: there is no such file/);
  });

  it.each([
    ['no ONNX at all', Buffer.from('not a graph'), {}, /parsing|protobuf|load/i],
    ['a graph without the inputs of the manifest', null, { flags: ['a', 'b', 'c', 'd'] }, UNFIT],
    ['a graph of another size', null, { input: { ...SHIPPED.input, height: 33 } }, UNFIT],
  ])('refuses a model file with the right sha256 that is %s', async (_case, bytes, more, why) => {
    const copy = await copyOfModel(`graph-${bytes?.length ?? 0}`);
    const model = bytes ?? (await readFile(join(copy, 'model.onnx')));
    const manifest = JSON.parse(await readFile(join(copy, 'model.json'), 'utf8')) as object;
    const sha256 = createHash('sha256').update(model).digest('hex');
    await writeFile(join(copy, 'model.onnx'), model);
    await writeFile(join(copy, 'model.json'), JSON.stringify({ ...manifest, sha256, ...more }));
    const { code, output } = await failedStart({ MODEL_DIR: copy, EXECUTION_PROVIDER: 'cpu' });
    expect(code).toBe(1);
    expect(output.split('\n').findLast((line) => line.startsWith('depthserve: '))).toMatch(why);
  });

  it.skipIf(networkInterfaces()['lo']?.every(({ family }) => family !== 'IPv6'))(
    'HOST=:: is for IPv6 and IPv4',
    async () => {
      const server = await startServer({ HOST: '::' }, { untilReady: false });
      const { port } = new URL(server.url);
      for (const host of ['127.0.0.1', '[::1]']) {
        expect((await fetch(`http://${host}:${port}/health/live`)).status).toBe(200);
      }
      expect(await server.stop()).toBe(0);
    },
  );

  it('a time for heads may be longer than the one for requests', async () => {
    const times = { HEAD_TIMEOUT_MS: '600000', REQUEST_TIMEOUT_MS: '500000' };
    const server = await startServer(times, { untilReady: false });
    expect(await server.stop()).toBe(0);
  });

  it('HOST=localhost is one address: a second server would have no limits', async () => {
    const server = await startServer({ HOST: 'localhost' }, { untilReady: false });
    const { port } = new URL(server.url);
    expect((await fetch(`http://127.0.0.1:${port}/health/live`)).status).toBe(200);
    await expect(fetch(`http://[::1]:${port}/health/live`)).rejects.toThrow('fetch failed');
    expect(await server.stop()).toBe(0);
  });
});

describe('stop', () => {
  it('SIGTERM before anything has begun: an end without a word', async () => {
    const child = spawn(process.execPath, ['dist/main.js'], {
      env: { ...process.env, PORT: '0', HOST: '127.0.0.1', EXECUTION_PROVIDER: 'cpu' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
    const ended = once(child, 'close');
    await once(child, 'spawn');
    child.kill('SIGTERM');
    // No handler is there yet, so the signal itself ends the process.
    expect(await ended).toEqual([null, 'SIGTERM']);
    expect(errors).toBe('');
  });

  it('SIGTERM during the warm-up: a clean end, without waiting until it is warm', async () => {
    const server = await startServer({ MAX_BATCH: '32' }, { untilReady: false });
    expect(await server.stop()).toBe(0);
    expect(server.log()).toContain('"drained"');
    expect(server.log()).not.toContain('"msg":"warm"');
  });

  it('SIGTERM when it is ready: a clean end', async () => {
    const server = await startServer({ MAX_BATCH: '1' });
    expect(await server.stop()).toBe(0);
    expect(server.log()).toContain('"drained"');
  });

  it('answers requests that were wholly sent before SIGTERM, taken up or not', async () => {
    const server = await startServer();
    const request = bytesOf(
      ['POST /classify HTTP/1.1', 'Content-Type: image/jpeg', 'X-Latency-Budget-Ms: 60000'],
      CAT,
    );
    const idle = await Promise.all([1, 2, 3].map(() => RawConnection.open(server.url)));
    for (const connection of idle) {
      await connection.send('GET /model HTTP/1.1\r\nHost: test\r\n\r\n');
      await connection.received(/\r\n\r\n\{[^]*\}$/);
    }
    // So that all of them are still in the kernel when the signal comes.
    server.process.kill('SIGSTOP');
    const fresh = await Promise.all([1, 2, 3].map(() => RawConnection.open(server.url)));
    const connections = [...idle, ...fresh];
    await Promise.all(connections.map((connection) => connection.send(request)));
    const exited = once(server.process, 'exit');
    server.process.kill('SIGTERM');
    server.process.kill('SIGCONT');
    for (const connection of connections) {
      expect(await connection.ended()).toMatch(/HTTP\/1\.1 200 OK\r\n[^]*"predictions"/);
    }
    expect(await exited).toEqual([0, null]);
  });

  it.each(['1', '2'])(
    'waits neither for requests that do not come nor for clients that do not read, FRONTS=%s',
    async (FRONTS) => {
      // It waits for them for five seconds, and is killed after twenty.
      const times = { REQUEST_TIMEOUT_MS: '5000', DRAIN_TIMEOUT_MS: '20000' };
      const server = await startServer({ FRONTS, ...times });
      const silent = await RawConnection.open(server.url);
      const halfHead = await RawConnection.open(server.url);
      await halfHead.send('GET /health/live HTTP/1.1\r\nHost: test\r\n\r\nGET /health/live HT');
      await halfHead.received(/"status"/);
      const noBody = await RawConnection.open(server.url);
      const lines = [
        'POST /classify HTTP/1.1',
        'X-Latency-Budget-Ms: 60000',
        'Expect: 100-continue',
      ];
      await noBody.send(bytesOf(lines, CAT).subarray(0, -CAT.length));
      await noBody.received(/100 Continue/);
      // More answers than the kernel takes, of which none is read.
      const unread = await RawConnection.open(server.url);
      unread.socket.pause();
      await unread.send('GET /model HTTP/1.1\r\nHost: test\r\n\r\n'.repeat(900));
      const stopped = server.stop();
      await silent.ended();
      await halfHead.ended();
      expect(await noBody.ended()).toMatch(/HTTP\/1\.1 408 [^]*"request-timeout"/);
      expect(await stopped).toBe(0);
    },
  );

  it('answers what it accepted, and exits 0', async () => {
    const server = await startServer();
    // More than can be answered at once, so that some are queued when the signal comes.
    const accepted = Array.from({ length: 80 }, () =>
      classify(server.url, CAT, { 'x-latency-budget-ms': '60000' }),
    );
    await Promise.race(accepted);
    const stopped = server.stop();
    const replies = await Promise.allSettled(accepted);
    expect(await stopped).toBe(0);

    const statuses = replies.map((reply) =>
      // A connection that was still in the backlog is refused whole: the client knows.
      reply.status === 'fulfilled' ? reply.value.status : 'refused',
    );
    const answered = statuses.filter((status) => status === 200).length;
    expect(answered).toBeGreaterThan(1);
    // Each was answered, told that the server is draining, or refused whole.
    for (const status of statuses) expect([200, 503, 'refused']).toContain(status);
    // Whoever reached the queue got an answer.
    expect(server.log()).not.toContain('"outcome":"internal"');
    expect(server.log()).not.toContain('"outcome":"engine-failed"');
    expect(server.log()).toContain('"drained"');
  });
});
