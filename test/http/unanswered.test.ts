import { expect, test } from 'vitest';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { countUnanswered } from '../../src/http/disconnect.ts';
import { refuseEarly } from '../../src/http/problem.ts';
import type { Serving } from '../../src/http/serving.ts';

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
