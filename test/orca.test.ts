import { expect, test } from 'vitest';
import { formatted } from '../src/http/orca.ts';

const report = {
  cpu_utilization: 0.5,
  mem_utilization: 0.25,
  application_utilization: 0.75,
  rps_fractional: 12,
  eps: 0,
  named_metrics: { queue_length: 3 },
};

test('a report as text, the way Envoy parses it', () => {
  expect(formatted(report, 'text')).toBe(
    'TEXT cpu_utilization=0.5, mem_utilization=0.25, application_utilization=0.75, ' +
      'rps_fractional=12, eps=0, named_metrics.queue_length=3',
  );
});

test('a report as JSON', () => {
  expect(formatted(report, 'json')).toBe(`JSON ${JSON.stringify(report)}`);
});

test('no report in a format that ORCA does not have', () => {
  expect(formatted(report, 'xml')).toBeNull();
});
