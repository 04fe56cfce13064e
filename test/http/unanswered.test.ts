import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { cleanUpAfter } from '../../src/http/connections.ts';
import { countUnanswered } from '../../src/http/disconnect.ts';
import { Cleanup } from '../../src/http/cleanup.ts';
import { answerClientError, refuseEarly } from '../../src/http/problem.ts';
import type { Serving } from '../../src/http/serving.ts';
import { RawConnection } from './raw.ts';

/** What is recorded of a request whose connection ends before all of its answer is written. */
function recorded(outcome: 'met' | null): string[] {
  const codes: string[] = [];
  const unanswered = ({ code }: { code: string }) => codes.push(code);
  const service = { recorder: { unanswered } } as unknown as Serving;
  const raw = { complete: true, socket: {} };
  const log = { info() {} };
  const request = { raw, outcome, log, arrivedAt: 0, trace: null } as unknown as FastifyRequest;
  countUnanswered(service, request, { raw: { writableFinished: false } } as FastifyReply);
  return codes;
}

test('a request whose client goes away is cancelled', () => {
  expect(recorded(null)).toEqual(['cancelled']);
});

test('but not one whose answer was on its way: it is recorded already', () => {
  expect(recorded('met')).toEqual([]);
});

test.each([true, false])('a refusal closes the connection only in a drain: %s', (isClosing) => {
  let head: readonly string[] = [];
  const raw = { writeHead: (_: number, sent: string[]) => (head = sent), end() {} };
  const reply = { raw, hijack() {}, getHeaders: () => ({}) } as unknown as FastifyReply;
  const refusal = { reason: 'overload', smallestBudgetMs: 9 } as const;
  refuseEarly(refusal, { id: 'r' } as FastifyRequest, reply, isClosing);
  expect(head.includes('connection')).toBe(isClosing);
});

test('bytes that are no request get no answer in the middle of another', async () => {
  const server = createServer((_, response) => response.write('half'));
  server.on('clientError', answerClientError).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const connection = await RawConnection.open(`http://127.0.0.1:${port}`);
  await connection.send('GET / HTTP/1.1\r\nHost: test\r\n\r\n');
  await connection.received(/half/);
  await connection.send('no request\r\n\r\n');
  expect(await connection.ended()).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*half\r\n$/);
  server.close();
});

describe('pipelined requests', () => {
  let held = 0;
  const server = createServer((request, response) => {
    const cleanup = new Cleanup();
    cleanup.push(() => held--);
    held++;
    cleanUpAfter(response, request.socket, cleanup);
  });
  let connection: RawConnection;
  beforeEach(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    connection = await RawConnection.open(`http://127.0.0.1:${port}`);
  });
  afterEach(() => server.close());
  const send = async (count: number) =>
    connection.send('GET / HTTP/1.1\r\nHost: test\r\n\r\n'.repeat(count));

  test('give back what they hold when their connection ends', async () => {
    await send(3);
    await expect.poll(() => held).toBe(3);
    connection.socket.destroy();
    await expect.poll(() => held).toBe(0);
  });

  test('are not read without end: more than a thousand behind another end the connection', async () => {
    await send(1001);
    await expect.poll(() => held).toBe(1001);
    await send(1);
    await connection.ended();
    await expect.poll(() => held).toBe(0);
  });
});
