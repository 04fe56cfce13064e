import { join, dirname } from 'node:path';
import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { DepthServe } from '../src/client/client.ts';
import { PYTHON, runToEnd } from './clients/python.ts';
import { startServer } from './server.ts';

const SCHEMATHESIS = join(dirname(PYTHON), 'schemathesis');

/** `npm run fuzz`: minutes, not seconds, so not part of `npm test`. */
test.runIf(process.env['FUZZ'])(
  'an API fuzzer finds no 5xx but refusals, and nothing undocumented',
  { timeout: 600_000 },
  async () => {
    expect(existsSync(SCHEMATHESIS), `${SCHEMATHESIS}: run .ci/tools-clients.sh`).toBe(true);
    const server = await startServer({ DEFAULT_BUDGET_MS: '60000' });
    try {
      const { manifest } = await new DepthServe(server.url).model();
      process.env['MODEL_NAME'] = manifest.name;
      process.env['MODEL_VERSION'] = manifest.version;
      const output = await runToEnd(SCHEMATHESIS, [
        '--config-file=test/clients/schemathesis.toml',
        'run',
        `${server.url}/docs/json`,
      ]);
      console.log(output.slice(-1500));
      expect(server.log()).not.toContain('"code":"internal"');
    } finally {
      await server.stop();
    }
  },
);
