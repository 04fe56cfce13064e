import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { expect, test } from 'vitest';
import { PYTHON, runToEnd } from './clients/python.ts';
import { startServer } from './server.ts';
import { without } from './tools.ts';

const GENERATOR = join(dirname(PYTHON), 'openapi-python-client');
const noGenerator = without(GENERATOR, 'run .ci/tools-clients.sh');

interface Operation {
  summary?: string;
  operationId?: string;
  parameters?: { in: string; name: string }[];
  responses: Record<string, unknown>;
}

const printed = JSON.parse(await runToEnd(process.execPath, ['dist/main.js', 'openapi'])) as Record<
  string,
  unknown
> & {
  paths: Record<string, Record<string, Operation>>;
  servers: { url: string }[];
  components: { schemas: Record<string, object> };
};

test('the OpenAPI document is valid', async () => {
  expect(await new Validator().validate(structuredClone(printed))).toEqual({ valid: true });
});

test('every operation says what it is for', () => {
  for (const [path, operations] of Object.entries(printed.paths)) {
    for (const [method, { summary }] of Object.entries(operations)) {
      expect(summary, `${method} ${path}`).toBeTruthy();
    }
  }
});

test('every operation but health says that it may need a token', () => {
  for (const [path, operations] of Object.entries(printed.paths)) {
    const { responses } = Object.values(operations)[0]!;
    const refusals = ['401', '429'].filter((status) => status in responses);
    expect(refusals, path).toEqual(/^(\/v2)?\/health\//.test(path) ? [] : ['401', '429']);
  }
});

test('a path has the parameters that it names, and no others', () => {
  for (const [path, operations] of Object.entries(printed.paths)) {
    const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    for (const { parameters = [] } of Object.values(operations)) {
      const declared = parameters.filter((each) => each.in === 'path').map(({ name }) => name);
      expect(declared, path).toEqual(named);
    }
  }
});

test('docs/openapi.json is what the service prints: else run `npm run openapi`', async () => {
  expect(JSON.parse(await readFile('docs/openapi.json', 'utf8'))).toEqual(printed);
});

test('names every operation once, and says where the service is', () => {
  const ids = Object.values(printed.paths)
    .flatMap((operations) => Object.values(operations))
    .map(({ operationId }) => operationId);
  expect(ids).toEqual(expect.arrayContaining(['classify', 'getModel', 'v2PostModelInfer']));
  expect(new Set(ids).size).toBe(ids.length);
  expect(printed.servers.map(({ url }) => url)).toEqual(['/', 'http://localhost:8080']);
});

test('schemas are named components, referred to rather than repeated', () => {
  expect(Object.keys(printed.components.schemas)).toEqual(
    expect.arrayContaining(['Answer', 'Answers', 'Problem', 'ModelInfo', 'InferRequest']),
  );
  expect(JSON.stringify(printed.paths)).not.toContain('"title"');
  const refs = [...JSON.stringify(printed).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)];
  expect(refs.length).toBeGreaterThan(10);
  for (const [, name] of refs) expect(printed.components.schemas).toHaveProperty(name!);
});

test('openapi-typescript makes types of it that a client can use', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'depthserve-openapi-'));
  try {
    // It wants a TypeScript older than ours, so it is run in an environment of its own.
    const packages = ['openapi-typescript@7.13.0', 'typescript@5.9.3'];
    await runToEnd('npm', [
      'exec',
      '--yes',
      ...packages.map((name) => `--package=${name}`),
      '--',
      'openapi-typescript',
      'docs/openapi.json',
      '--output',
      join(folder, 'api.ts'),
    ]);
    await writeFile(
      join(folder, 'client.ts'),
      `import type { components, operations } from './api.ts';
       type Reply = operations['classify']['responses'][200]['content']['application/json'];
       export function labelOf(reply: Reply): string {
         const answer: components['schemas']['Answer'] = 'results' in reply ? reply.results[0]! : reply;
         return answer.predictions[0]!.label;
       }
       // @ts-expect-error: there is no such member.
       export const wrong = (answer: components['schemas']['Answer']) => answer.labels;\n`,
    );
    const options = [
      '--ignoreConfig',
      '--noEmit',
      '--strict',
      '--module',
      'nodenext',
      '--allowImportingTsExtensions',
    ];
    const tsc = resolve('node_modules/.bin/tsc');
    expect(await runToEnd(tsc, [...options, join(folder, 'client.ts')])).toBe('');
  } finally {
    await rm(folder, { recursive: true });
  }
}, 600_000);

test.skipIf(noGenerator)('openapi-python-client makes a client of it that works', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'depthserve-openapi-'));
  const server = await startServer();
  try {
    const target = ['--output-path', join(folder, 'depthserve_client'), '--meta', 'none'];
    const said = await runToEnd(GENERATOR, ['generate', '--path', 'docs/openapi.json', ...target]);
    expect(said).not.toContain('will not be generated');
    const script = ['test/clients/generated_client.py', folder, server.url];
    const photo = 'models/cifar10/samples/cat.jpg';
    expect((await runToEnd(PYTHON, [...script, photo])).trim()).toBe('cat');
  } finally {
    await server.stop();
    await rm(folder, { recursive: true });
  }
});
