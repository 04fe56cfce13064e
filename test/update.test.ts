import {
  mkdir,
  readFile,
  readdir,
  readlink,
  rename,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Answer } from '../src/http/schemas.ts';
import type { Manifest } from '../src/model/manifest.ts';
import { CAT, classify, classifyForm, scrape } from './http/client.ts';
import { RawConnection, bytesOf } from './http/raw.ts';
import { CIFAR10, FIVE_FLAGS, ModelFolder, manifestIn } from './model/folder.ts';
import { startServer } from './server.ts';
import type { Server } from './server.ts';

const PATIENT = { 'x-latency-budget-ms': '60000' };

let shipped: Manifest;
let fiveFlags: Manifest;
beforeAll(async () => {
  shipped = await manifestIn(CIFAR10);
  fiveFlags = await manifestIn(FIVE_FLAGS);
});

let folder: ModelFolder;
let server: Server;
beforeEach(async () => {
  folder = await ModelFolder.create();
});
afterEach(async () => {
  await server?.stop();
  await folder.remove();
});

async function start(env: NodeJS.ProcessEnv = {}, nodeOptions: readonly string[] = []) {
  server = await startServer(
    { MODEL_DIR: folder.path, MAX_BATCH: '2', MODEL_POLL_SECONDS: '1', ...env },
    { nodeOptions },
  );
}

interface Info {
  readonly manifest: Manifest;
  readonly update: { version: string | null; result: string } | null;
}
const info = async () => (await (await fetch(`${server.url}/model`)).json()) as Info;
const served = async () => (await info()).manifest.version;
const isReady = async () => (await fetch(`${server.url}/health/ready`)).ok;
const reloaded = () => server.process.kill('SIGHUP');

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(50);
}
const serves = (version: string) => until(async () => (await served()) === version);

const count = async (result: string) =>
  Number(
    new RegExp(`^depthserve_model_updates_total{result="${result}"} (\\d+)$`, 'm').exec(
      await scrape(server.url),
    )![1],
  );
const times = (message: string) => server.log().split(`"${message}"`).length - 1;

/** Why the last version was rejected that was; empty if none was. */
function lastRejection(): string {
  const lines = server.log().split('\n');
  const line = lines.findLast((text) => text.includes('"model update rejected"'));
  return line ? (JSON.parse(line) as { err: { message: string } }).err.message : '';
}

/** An image as v2 takes it. */
const tensorOf = (image: Buffer) => ({
  name: 'image',
  shape: [1],
  datatype: 'BYTES',
  data: [image.toString('base64')],
});

/** Whether labels, flags and version of an answer are those of one model. */
function isOfOneVersion({ model, predictions, subNetwork }: Answer): boolean {
  const { labels, flags } = model.version.startsWith('5.') ? fiveFlags : shipped;
  return (
    subNetwork.skip.length === flags.length &&
    predictions.every(({ label, index }) => labels[index] === label)
  );
}

describe('a new version in the model folder', () => {
  it('is served without a failed request, and each answer is of exactly one version', async () => {
    await start();
    const versions = new Set<string>();
    const over = new AbortController();
    const failures: unknown[] = [];
    const clients = [0, 1, 2, 3].map(async (client) => {
      while (!over.signal.aborted) {
        // Every other client sends two images, which must be answered by the same version.
        const { status, body } =
          client % 2
            ? await classifyForm(server.url, [CAT, CAT], PATIENT)
            : await classify(server.url, CAT, PATIENT);
        const answers = 'results' in body ? body.results : [body];
        const answeredBy = new Set(answers.map(({ model }) => model?.version));
        if (status !== 200 || answeredBy.size !== 1 || !answers.every(isOfOneVersion)) {
          failures.push({ status, body });
        }
        for (const version of answeredBy) versions.add(version);
        await sleep(20);
      }
    });
    const probes = (async () => {
      while (!over.signal.aborted) {
        if (!(await isReady())) failures.push('not ready');
        await sleep(20);
      }
    })();

    // Another input size, other labels, more flags; then back, by the version that was left.
    await folder.put(FIVE_FLAGS, { version: '5.0.0' });
    await until(async () => versions.has('5.0.0'));
    await folder.put(CIFAR10);
    await serves(shipped.version);
    await folder.put(FIVE_FLAGS, { version: '5.1.0' });
    await until(async () => versions.has('5.1.0'));
    over.abort();
    await Promise.all([...clients, probes]);

    expect(failures).toEqual([]);
    expect(versions).toEqual(new Set([shipped.version, '5.0.0', '5.1.0']));
    expect(await count('updated')).toBe(3);
    expect((await info()).update).toEqual({ version: '5.1.0', result: 'updated' });
    expect(await scrape(server.url)).toContain('depthserve_build_info{model_version="5.1.0"} 1');
    // Nothing is left of the sub-networks of the other model.
    expect(await scrape(server.url)).not.toMatch(
      /^depthserve_(expected_accuracy_ratio|latency_table_seconds){[^}]*tier="[FT]{4}"/m,
    );

    const path = `${server.url}/v2/models/${shipped.name}`;
    expect((await fetch(`${path}/versions/5.1.0/ready`)).status).toBe(200);
    expect((await fetch(`${path}/versions/${shipped.version}/ready`)).status).toBe(404);
    expect(await (await fetch(path)).json()).toMatchObject({
      versions: ['5.1.0'],
      inputs: [{ shape: [-1, 48, 48, 3] }],
    });
  });

  it.each(['1', '2'])(
    'does not take the requests whose bodies are still under way, FRONTS=%s',
    async (FRONTS) => {
      await start({ MODEL_POLL_SECONDS: '0', FRONTS });
      const v2 = { inputs: [tensorOf(CAT)], parameters: { latency_budget_ms: 60_000 } };
      const requests = [
        ['/classify', 'image/jpeg', CAT],
        [`/v2/models/${shipped.name}/infer`, 'application/json', Buffer.from(JSON.stringify(v2))],
      ] as const;
      const begun = await Promise.all(
        requests.map(async ([path, type, body]) => {
          const lines = ['X-Latency-Budget-Ms: 60000', 'Expect: 100-continue'];
          const request = bytesOf(
            [`POST ${path} HTTP/1.1`, `Content-Type: ${type}`, ...lines],
            body,
          );
          const connection = await RawConnection.open(server.url);
          await connection.send(request.subarray(0, -body.length));
          // It has its version now.
          await connection.received(/100 Continue/);
          return { connection, body };
        }),
      );
      await folder.put(FIVE_FLAGS, { version: '5.0.0' });
      reloaded();
      await serves('5.0.0');
      expect((await classify(server.url, CAT, PATIENT)).body.model.version).toBe('5.0.0');
      expect(times('model released')).toBe(0);

      for (const { connection, body } of begun) {
        await connection.send(body);
        const text = await connection.received(/\}$/);
        expect(text).toMatch(/Continue\r\n\r\nHTTP\/1.1 200 /);
        // Classes and flags are its own, too.
        expect(text).toMatch(/"(version|model_version)":"1\.1\.0"/);
        expect(text).toMatch(/"(skip|sub_network)":"[FT]{4}"/);
        connection.socket.destroy();
      }
      await until(async () => times('model released') === 1);
    },
  );

  it('is found when a mounted volume changes by a link', async () => {
    const { path } = folder;
    const links = { a: '2.0.0', b: '3.0.0' };
    for (const [name, version] of Object.entries(links)) {
      await mkdir(join(path, name));
      const manifest = { ...shipped, version };
      await writeFile(join(path, name, 'model.json'), JSON.stringify(manifest));
      await writeFile(join(path, name, 'model.onnx'), await readFile(join(CIFAR10, 'model.onnx')));
    }
    await symlink('a', join(path, '..data'));
    for (const file of ['model.json', 'model.onnx']) {
      await symlink(`..data/${file}`, join(path, `${file}.link`));
      await rename(join(path, `${file}.link`), join(path, file));
    }
    await start();
    expect(await served()).toBe('2.0.0');
    await symlink('b', join(path, '..next'));
    await rename(join(path, '..next'), join(path, '..data'));
    await serves('3.0.0');
  });

  it('is looked for at SIGHUP, which ends nothing', async () => {
    await start({ MODEL_POLL_SECONDS: '0' });
    // The first may be found by the start's own look, the second only by the signal.
    for (const version of ['2.0.0', '3.0.0']) {
      await folder.put(CIFAR10, { version });
      reloaded();
      await serves(version);
      await until(async () => (await info()).update?.version === version);
    }
  });

  it('does not end a memory: resident size, threads and files are as before', async () => {
    await start();
    const state = async () => {
      const { pid } = server.process;
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      const files = (await readdir(`/proc/${pid}/fd`)).map((fd) => `/proc/${pid}/fd/${fd}`);
      const open = await Promise.all(files.map((fd) => readlink(fd).catch(() => '')));
      return {
        mb: Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]) / 1024,
        threads: (await readdir(`/proc/${pid}/task`)).length,
        models: open.filter((file) => file.endsWith('.onnx')).length,
      };
    };
    const swap = async (count: number) => {
      await folder.put(CIFAR10, { version: `2.0.${count}` });
      reloaded();
      await until(async () => times('model released') === count);
    };
    // A signal that comes after the update that it asks for has the file opened once more.
    const oneModel = () => until(async () => (await state()).models === 1);
    await swap(1);
    await oneModel();
    const before = await state();
    for (let count = 2; count <= 8; count++) await swap(count);
    await oneModel();
    const after = await state();
    // Seven workers that stayed would be seven; others of Node's may still be started.
    expect(after.threads - before.threads).toBeLessThan(4);
    // The heaps that the first few leave to the others are 45 to 125 MB with the state of the
    // machine; seven sessions that stayed would add 175.
    expect(after.mb - before.mb).toBeLessThan(170);
  });
});

describe('a version that cannot be served', () => {
  const garbage = Buffer.from('not a graph');
  /** The weights of the last layer are no numbers. */
  async function poisoned(): Promise<Buffer> {
    const model = await readFile(join(FIVE_FLAGS, 'model.onnx'));
    const name = model.lastIndexOf('classifier.1.weight');
    expect(name).toBeGreaterThan(0);
    // Wherever a float begins, three of these bytes in a row and one more are NaN.
    return Buffer.concat([
      model.subarray(0, name + 40),
      Buffer.alloc(400, 0xff),
      model.subarray(name + 440),
    ]);
  }

  it('is rejected, whatever is wrong with it, and the old one is served on', async () => {
    await start();
    const cases: [string, () => Promise<void>, RegExp][] = [
      ['no JSON', () => folder.putManifest('{"schemaVersion": 1,'), /JSON/],
      ['schema', () => folder.putManifest({ ...shipped, labels: 'cat' }), /labels/],
      [
        'sha256',
        () => folder.put(CIFAR10, { version: '2.0.0', sha256: '0'.repeat(64) }),
        /sha256 is/,
      ],
      [
        'no ONNX',
        () => folder.put(CIFAR10, { version: '2.0.0', bytes: 1 }, garbage),
        /model-\d\.onnx/,
      ],
      [
        'flags',
        () => folder.put(CIFAR10, { version: '2.0.0', flags: ['a', 'b', 'c', 'd'] }),
        /input/,
      ],
      [
        'labels',
        () => folder.put(CIFAR10, { version: '2.0.0', labels: ['cat', 'dog'] }),
        /10 outputs, the manifest 2 labels/,
      ],
      [
        'NaN',
        async () => folder.put(FIVE_FLAGS, { version: '2.0.0' }, await poisoned()),
        /not finite/,
      ],
      ['another name', () => folder.put(CIFAR10, { version: '2.0.0', name: 'other' }), /restart/],
      ['same version', () => folder.put(CIFAR10, { bytes: 1 }), /already/],
    ];
    for (const [what, put, why] of cases) {
      await put();
      reloaded();
      // Not by counting: a poll may find it before the signal does, which is then a second try.
      await vi.waitFor(() => expect(lastRejection(), what).toMatch(why), { timeout: 60_000 });
      const named = { 'no JSON': null, schema: shipped.version, 'same version': shipped.version };
      const version = what in named ? named[what as keyof typeof named] : '2.0.0';
      expect((await info()).update, what).toMatchObject({ result: 'rejected', version });
      expect(await isReady(), what).toBe(true);
      const { status, body } = await classify(server.url, CAT, PATIENT);
      expect([status, body.model.version], what).toEqual([200, shipped.version]);
    }
    expect(await count('rejected')).toBeGreaterThanOrEqual(cases.length);
    expect(await count('updated')).toBe(0);

    await folder.put(CIFAR10, { version: '2.0.0' });
    await serves('2.0.0');
    expect(await server.stop()).toBe(0);
    // Ten versions, each of which is warmed up as far as it goes, a quarter of the time.
  }, 300_000);

  it('because it is still being copied: said once, and served when it is whole', async () => {
    await start();
    await folder.put(CIFAR10, { version: '2.0.0' });
    const half = join(folder.path, (await manifestIn(folder.path)).file);
    const whole = await readFile(half);
    await truncate(half, 1000);
    await until(async () => times('model update rejected') === 1);
    await writeFile(half, whole);
    await serves('2.0.0');
    expect(times('model update rejected')).toBe(1);
    expect((await info()).update).toEqual({ version: '2.0.0', result: 'updated' });
  });

  it.skipIf(process.platform !== 'linux')(
    'does not come in by a worker that is replaced: the file of the old one is held',
    async () => {
      await start({ ENGINE_WORKERS: '1', MODEL_POLL_SECONDS: '0' }, [
        '--import',
        './test/faults/preload.mjs',
      ]);
      const before = await classify(server.url, CAT, PATIENT);
      await writeFile(join(folder.path, 'other.onnx'), garbage);
      await rename(join(folder.path, 'other.onnx'), join(folder.path, 'model.onnx'));
      // The colour that makes preload.mjs crash the worker.
      const background = { r: 250, g: 0, b: 0 };
      const crash = await sharp({ create: { width: 32, height: 32, channels: 3, background } })
        .png()
        .toBuffer();
      expect((await classify(server.url, crash, PATIENT)).status).toBe(503);
      await until(isReady);
      const after = await classify(server.url, CAT, PATIENT);
      expect(after.status).toBe(200);
      expect(after.body.predictions[0]!.label).toBe(before.body.predictions[0]!.label);
    },
  );
});

describe('SIGTERM during an update', () => {
  it.each([100, 600, 1500])('%i ms after it began: a clean end', async (ms) => {
    await start({ MAX_BATCH: '32' });
    await folder.put(CIFAR10, { version: '2.0.0' });
    reloaded();
    await until(async () => times('another model version: warming it up') === 1);
    await sleep(ms);
    const accepted = classify(server.url, CAT, PATIENT);
    await sleep(50);
    expect(await server.stop()).toBe(0);
    expect([200, 503]).toContain((await accepted).status);
    expect(server.log()).toContain('"drained"');
    expect(times('model update rejected')).toBe(0);
  });
});
