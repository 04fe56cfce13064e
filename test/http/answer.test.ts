import { expect, test } from 'vitest';
import { answerOf } from '../../src/http/answer.ts';
import type { Classified } from '../../src/telemetry/recorder.ts';

test.each([
  [9.9, true],
  [10, true],
  [10.1, false],
])('after %d ms a budget of 10 ms is met: %s', (totalMs, met) => {
  const tier = { skip: 'T', accuracy: 0.8, macs: 1 };
  const result = {
    manifest: { name: 'm', version: '1', labels: ['a', 'b'] },
    tier,
    output: Float32Array.of(0, 1),
    looks: [{ tier, confidence: 0.7, at: 0 }],
    predictedMs: 9,
  } as unknown as Classified;
  expect(answerOf('r', result, 10, totalMs, 1).budget).toEqual({
    requestedMs: 10,
    predictedMs: 9,
    actualMs: totalMs,
    met,
  });
});
