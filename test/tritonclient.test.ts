import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PYTHON, noPython, runToEnd } from './clients/python.ts';
import { startServer } from './server.ts';
import type { Server } from './server.ts';

if (noPython) console.warn(`skipping the tests with tritonclient: ${noPython}`);

describe.skipIf(noPython)('the unmodified Python tritonclient[http]', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(async () => {
    await server?.stop();
  });

  test('drives the service: metadata, JSON, binary, batch, time-outs, errors', async () => {
    const address = new URL(server.url).host;
    const output = await runToEnd(PYTHON, [
      'test/clients/triton_client.py',
      address,
      'models/cifar10/samples/cat.jpg',
    ]);
    expect(output).toMatch(/Ran \d+ tests[^]*OK\n$/);
  });
});
