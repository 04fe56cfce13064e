import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PYTHON, noPython, runToEnd } from '../clients/python.ts';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { lacks } from '../tools.ts';
import { CAT, classifyForm } from './client.ts';

const IMAGE = 'models/cifar10/samples/cat.jpg';

/** Two images and, where the client makes it easy, a field that is none: both images are answered. */
describe('forms that real clients write', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(async () => {
    await server?.stop();
  });

  it('undici, as fetch', async () => {
    const { status, body } = await classifyForm(server.url, [CAT, CAT], {
      'x-latency-budget-ms': '60000',
    });
    expect([status, body.results.length]).toEqual([200, 2]);
  });

  const clients: readonly (readonly [string, boolean, string, (url: string) => string[]])[] = [
    [
      'curl',
      lacks('curl'),
      'curl',
      (url) =>
        `-sS -w %{stderr}%{http_code} -H X-Latency-Budget-Ms:60000 ${url}/classify -F note=x`
          .split(' ')
          .concat('-F', `image=@${IMAGE}`, '-F', `image=@${IMAGE};filename=a"b.jpg`),
    ],
    [
      "Go's mime/multipart",
      lacks('go'),
      'go',
      (url) => ['run', 'test/clients/forms/form.go', url, IMAGE],
    ],
    ['Java', lacks('java'), 'java', (url) => ['test/clients/forms/Form.java', url, IMAGE]],
    ...['requests', 'httpx'].map(
      (library) =>
        [
          `Python's ${library}`,
          noPython !== null,
          PYTHON,
          (url: string) => ['test/clients/forms/form.py', library, url, IMAGE],
        ] as const,
    ),
  ];
  for (const [name, isMissing, program, args] of clients) {
    it.skipIf(isMissing)(`as ${name} does`, async () => {
      const output = await runToEnd(program, args(server.url));
      expect(output).toContain('200');
      expect(output.match(/"predictions"/g)).toHaveLength(2);
    });
  }
});
