import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatted, loadReports } from '../src/http/orca.ts';
import type { LoadReport } from '../src/http/orca.ts';
import type { Manifest } from '../src/model/manifest.ts';
import type { Service } from '../src/service.ts';
import { History } from '../src/telemetry/history.ts';
import { notWarm } from '../src/telemetry/status.ts';
import { CAT, classify } from './http/client.ts';
import { startServer } from './server.ts';
import type { Server } from './server.ts';

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

// To read it for each of many requests would cost more than to answer them.
test('the history is read once a second, the queue for each report', () => {
  let now = 60_000;
  let readings = 0;
  let waiting = 0;
  const service = {
    get history() {
      readings++;
      return new History(() => now);
    },
    status: () => ({ deployment: { ...notWarm({} as Manifest), waiting } }),
    config: { ENGINE_WORKERS: 1 },
  } as unknown as Service;
  const hook = loadReports(service, true, () => now);
  const request = { headers: { 'endpoint-load-metrics-format': 'json' } } as never;
  const report = () => {
    let header = '';
    const reply = { header: (_name: string, value: string) => (header = value) } as never;
    hook(request, reply, () => {});
    return JSON.parse(header.replace(/^JSON /, '')) as LoadReport;
  };

  for (; waiting < 10; waiting++) {
    expect(report().named_metrics).toMatchObject({ queue_length: waiting, lost_accuracy: 0 });
    now += 90;
  }
  expect(readings).toBe(1);
  now += 100;
  report();
  expect(readings).toBe(2);
});

describe('the real server', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(async () => {
    await server?.stop();
  });

  const FIELDS = [
    'cpu_utilization',
    'mem_utilization',
    'application_utilization',
    'rps_fractional',
    'eps',
  ];
  const ask = async (format?: string) => {
    const asked = format === undefined ? {} : { 'endpoint-load-metrics-format': format };
    const { status, headers } = await classify(server.url, CAT, {
      'x-latency-budget-ms': '60000',
      ...asked,
    });
    expect(status).toBe(200);
    return headers.get('endpoint-load-metrics');
  };
  const asJson = async () => JSON.parse((await ask('json'))!.replace(/^JSON /, '')) as LoadReport;

  test('says nothing to those who do not ask, or ask for what there is not', async () => {
    expect(await ask()).toBeNull();
    expect(await ask('xml')).toBeNull();
  });

  test('reports as text, upper or lower case', async () => {
    for (const format of ['text', 'TEXT']) {
      const report = await ask(format);
      expect(report).toMatch(/^TEXT cpu_utilization=/);
      const pairs = report!.slice('TEXT '.length).split(', ');
      const values = new Map(pairs.map((pair) => pair.split('=') as [string, string]));
      for (const name of [...FIELDS, 'named_metrics.queue_length', 'named_metrics.slowdown']) {
        expect(Number(values.get(name)), name).toBeGreaterThanOrEqual(0);
      }
    }
  });

  test('reports as JSON what it has been doing', async () => {
    // Images are counted by whole seconds, of which the present one is not yet over.
    await expect
      .poll(async () => (await asJson()).rps_fractional, { timeout: 20_000, interval: 300 })
      .toBeGreaterThan(0);
    const report = await asJson();
    expect(Object.keys(report)).toEqual([...FIELDS, 'named_metrics']);
    expect(report.application_utilization).toBeGreaterThan(0);
    expect(report.mem_utilization).toBeLessThan(1);
    expect(report.named_metrics['slowdown']).toBeGreaterThan(0);
  });

  test('reports with refusals, and counts them as errors', async () => {
    const hopeless = { 'x-latency-budget-ms': '0.01', 'endpoint-load-metrics-format': 'json' };
    const { status, headers } = await classify(server.url, CAT, hopeless);
    expect(status).toBe(503);
    expect(headers.get('endpoint-load-metrics')).toMatch(/^JSON /);
    await expect
      .poll(async () => (await asJson()).eps, { timeout: 20_000, interval: 300 })
      .toBeGreaterThan(0);
  });

  test('reports to clients of the Open Inference Protocol, too', async () => {
    const reply = await fetch(`${server.url}/v2`, {
      headers: { 'endpoint-load-metrics-format': 'text' },
    });
    expect(reply.headers.get('endpoint-load-metrics')).toMatch(/^TEXT /);
  });
});
