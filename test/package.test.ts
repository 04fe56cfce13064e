import { spawn } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { runToEnd } from './clients/python.ts';
import { classify } from './http/client.ts';
import { freePorts } from './server.ts';

/** Installed from the registry, as a user does: minutes on a slow machine. */
const PATIENCE = 600_000;

/** Of the repository: what is installed, built or made by other commands. */
const LEFT_OUT = /^(node_modules|dist|runs|\.git|\.venv[^/]*|bench\/peers\/\.venvs)$/;

describe('the package', () => {
  let folder: string;
  let files: readonly string[];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'depthserve-package-'));
    // In a copy: packing builds, and other tests run what is built here.
    const copy = join(folder, 'copy');
    await cp('.', copy, { recursive: true, filter: (path) => !LEFT_OUT.test(path) });
    await symlink(resolve('node_modules'), join(copy, 'node_modules'));
    const pack = ['pack', copy, '--ignore-scripts=false', '--json', '--pack-destination', folder];
    const [packed] = JSON.parse(/^\[\s*\{[^]*?^\]/m.exec(await runToEnd('npm', pack))![0]) as {
      filename: string;
      files: { path: string }[];
    }[];
    files = packed!.files.map(({ path }) => path);
    const target = ['--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund'];
    await runToEnd('npm', ['install', ...target, join(folder, packed!.filename)]);
  }, PATIENCE);
  afterAll(() => rm(folder, { recursive: true }));

  test('has what it needs to run, and nothing else', () => {
    expect(files).toEqual(
      expect.arrayContaining([
        'dist/main.js',
        'dist/client/client.d.ts',
        'src/page/index.html',
        'models/model.schema.json',
        'models/grocery/model.onnx',
        'models/grocery/NOTICE',
        'models/grocery/samples/index.json',
        'CHANGELOG.md',
        'LICENSE',
      ]),
    );
    const folders = new Set(files.map((path) => path.split('/')[0]));
    for (const name of ['test', 'bench', 'training', 'k8s', 'docs'])
      expect(folders).not.toContain(name);
  });

  test(
    'npx depthserve serve, from an empty folder, classifies a photo',
    async () => {
      const [port] = await freePorts(1);
      const args = ['depthserve', 'serve', '--port', String(port), '--execution-provider', 'cpu'];
      const server = spawn('npx', ['--no-install', ...args], {
        cwd: folder,
        detached: true,
        // The model that the package brings.
        env: { ...process.env, MODEL_DIR: undefined },
      });
      const url = `http://127.0.0.1:${port}`;
      try {
        const isReady = async () => (await fetch(`${url}/health/ready`)).ok;
        await vi.waitFor(async () => expect(await isReady()).toBe(true), PATIENCE);
        const photo = await readFile('models/grocery/samples/pineapple.jpg');
        const { status, body } = await classify(url, photo, { 'x-latency-budget-ms': '60000' });
        expect([status, body.predictions[0]!.label]).toEqual([200, 'Pineapple']);
        expect(await (await fetch(`${url}/`)).text()).toContain('<title>DepthServe');
        expect(await (await fetch(`${url}/samples/index.json`)).json()).not.toEqual([]);
      } finally {
        process.kill(-server.pid!, 'SIGTERM');
      }
    },
    PATIENCE,
  );

  test('depthserve/client has declarations', async () => {
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    await writeFile(
      join(folder, 'ask.ts'),
      `import { DepthServe } from 'depthserve/client';
       const { predictions } = await new DepthServe('http://localhost:8080').classify(new Blob());
       export const label: string = predictions[0]!.label;
       // @ts-expect-error: a probability is a number.
       export const wrong: string = predictions[0]!.probability;\n`,
    );
    const types = resolve('node_modules/@types');
    const options = [
      '--ignoreConfig',
      '--noEmit',
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'es2023',
    ];
    const lib = ['--lib', 'es2023,dom', '--typeRoots', types];
    const tsc = resolve('node_modules/.bin/tsc');
    expect(await runToEnd(tsc, [...options, ...lib, join(folder, 'ask.ts')])).toBe('');
  });

  test('needs no override of ours to run on the oldest Node', async () => {
    const { overrides } = JSON.parse(await readFile('package.json', 'utf8')) as {
      overrides: Record<string, unknown>;
    };
    // Only what a build from source would need: prebuilt files are used.
    expect(Object.keys(overrides)).toEqual(['@julusian/jpeg-turbo']);
  });
});
