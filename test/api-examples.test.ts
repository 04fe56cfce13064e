import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PYTHON, noPython, runToEnd } from './clients/python.ts';
import { freePorts, startServer } from './server.ts';
import type { Server } from './server.ts';

const text = await readFile('docs/api.md', 'utf8');
const examples = [...text.matchAll(/^```(sh|ts|python)\n([^]*?)^```$/gm)].map(
  ([, language, code], index) => ({ name: `${index + 1}`, language: language!, code: code! }),
);

/** The examples of docs/api.md as they stand there, but with the test's server and its patience. */
describe('the examples of docs/api.md', () => {
  let server: Server;
  let grpcPort: number;
  let folder: string;
  beforeAll(async () => {
    [grpcPort] = (await freePorts(1)) as [number];
    server = await startServer({ MODEL_DIR: 'models/grocery', GRPC_PORT: String(grpcPort) });
    folder = await mkdtemp(join(tmpdir(), 'examples-'));
    for (const name of ['photo', 'one', 'two']) {
      await copyFile('models/grocery/samples/pineapple.jpg', join(folder, `${name}.jpg`));
    }
  });
  afterAll(async () => {
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  test('are in three languages', () => {
    expect(new Set(examples.map(({ language }) => language))).toEqual(
      new Set(['sh', 'ts', 'python']),
    );
  });

  test.for(examples)('number $name, $language', async ({ name, language, code }, { skip }) => {
    skip(language === 'python' && noPython !== null, noPython ?? '');
    const runnable = code
      .replaceAll('localhost:8080', new URL(server.url).host)
      .replaceAll('localhost:8081', `127.0.0.1:${grpcPort}`)
      .replaceAll(/(Budget-Ms: |Budget-Ms": "|budgetMs: |budget_ms\\": )\d+/g, '$160000')
      .replaceAll('timeout=200_000', 'timeout=60_000_000')
      .replaceAll('client_timeout=0.2', 'client_timeout=60');
    expect(runnable, 'no budget that a busy machine could miss').toContain('60');
    const file = join(folder, `example-${name}`);
    expect(await started(runnable, language, file)).toContain('Pineapple');
  });

  async function started(code: string, language: string, file: string): Promise<string> {
    if (language === 'sh') {
      await writeFile(file, `cd '${folder}'\n${code}`);
      return runToEnd('bash', ['-eu', file]);
    }
    if (language === 'python') {
      await writeFile(file, `import os\nos.chdir('${folder}')\n${code}`);
      return runToEnd(resolve(PYTHON), [file]);
    }
    // It has no types written out, so that it is JavaScript as it stands.
    const client = pathToFileURL(resolve('dist/client/client.js')).href;
    const photo = `import { readFileSync } from 'node:fs';\nconst bytes = readFileSync('${folder}/photo.jpg');\n`;
    await writeFile(`${file}.mjs`, photo + code.replace("'depthserve/client'", `'${client}'`));
    return runToEnd(process.execPath, [`${file}.mjs`]);
  }
});
