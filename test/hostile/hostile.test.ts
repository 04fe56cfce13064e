import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ERRORS } from '../../src/errors.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { CAT, classify } from '../http/client.ts';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { BAD, GOOD } from './images.ts';
import { brokenHttp, hostileRequest } from './requests.ts';
import type { Hostile } from './requests.ts';
import { residentMb, send, sendBytes } from './send.ts';

/** `npm run fuzz:hostile` has 100,000. */
const CASES = Number(process.env['HOSTILE_CASES'] ?? 2000);
const AT_ONCE = 10;
/** Beyond what it needs after the first requests: bodies and decoded images of AT_ONCE requests. */
const MEMORY_BOUND_MB = 400;
/** Refusals for lack of time are no faults: small budgets are among the cases. */
const REFUSALS = new Set(['budget-too-small', 'overloaded', 'deadline-passed']);

let server: Server;
beforeAll(async () => {
  server = await startServer({ DEFAULT_BUDGET_MS: '3600000' });
});
afterAll(async () => {
  expect(server.log()).not.toContain('"code":"internal"');
  expect(await server.stop()).toBe(0);
});

const post = (body: Buffer): Hostile => ({
  method: 'POST',
  path: '/classify',
  headers: [['Content-Type', 'application/octet-stream']],
  body,
});

async function expectGoodAnswer(): Promise<void> {
  const { status, body } = await classify(server.url, CAT, { 'x-latency-budget-ms': '60000' });
  expect([status, body.predictions[0]!.label]).toEqual([200, 'cat']);
}

/** A success, or an error of the table in src/errors.ts that is the client's own or a refusal. */
function expectDocumented(answer: Awaited<ReturnType<typeof send>>): void {
  if (answer === null || answer.status < 400) return;
  const { status, body, headers } = answer;
  const form = JSON.parse(body || '{}') as { code?: string; error?: string };
  const code = form.code ?? form.error?.split(':', 1)[0] ?? 'none';
  expect(ERRORS[code as ErrorCode]?.[0], body).toBe(status);
  expect(headers['content-type'], body).toMatch(/^application\/(problem\+)?json/);
  if (status >= 500) expect(REFUSALS, body).toContain(code);
  expect(body).not.toMatch(/node_modules|\bat .*\.[jt]s:\d|"stack"/);
}

describe('images', () => {
  it.each(Object.keys(GOOD))('%s: answered', async (name) => {
    expect((await send(server.url, post(GOOD[name]!)))!.status).toBe(200);
  });

  it.each(Object.keys(BAD))('%s: refused with 4xx', async (name) => {
    const answer = await send(server.url, post(BAD[name]!));
    expectDocumented(answer);
    expect([400, 413, 422]).toContain(answer!.status);
  });
});

it('bytes that are no HTTP get 4xx or nothing, and the connection ends', async () => {
  const property = fc.asyncProperty(brokenHttp, async (bytes) => {
    const answer = await sendBytes(server.url, bytes);
    expect(answer).toMatch(/^$|^HTTP\/1\.1 [2-4]\d\d /);
    expect(answer).not.toMatch(/node_modules|\bat .*\.[jt]s:\d/);
  });
  await fc.assert(property, { numRuns: Math.ceil(CASES / 10) });
  await expectGoodAnswer();
}, 600_000);

it(
  `${CASES} hostile requests: documented errors, bounded memory, right answers in between`,
  { timeout: 120_000 + 100 * CASES },
  async () => {
    const { pid } = server.process;
    for (let i = 0; i < 20; i++) await expectGoodAnswer();
    const before = residentMb(pid!);
    let most = before;
    const outcomes: Record<string, number> = {};
    const property = fc.asyncProperty(
      fc.array(hostileRequest, { minLength: AT_ONCE, maxLength: AT_ONCE }),
      async (requests) => {
        const answers = await Promise.all(requests.map((request) => send(server.url, request)));
        for (const answer of answers) {
          const outcome = answer?.status ?? 'connection closed';
          outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
          expectDocumented(answer);
        }
        await expectGoodAnswer();
        most = Math.max(most, residentMb(pid!));
        expect(most - before).toBeLessThan(MEMORY_BOUND_MB);
      },
    );
    await fc.assert(property, { numRuns: Math.ceil(CASES / AT_ONCE), endOnFailure: true });
    console.log(outcomes);
    console.log(
      `${CASES} cases: resident memory ${before.toFixed(0)} MB before, ${most.toFixed(0)} MB at most`,
    );
  },
);
