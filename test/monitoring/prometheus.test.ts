import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CAT, classify } from '../http/client.ts';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { lacks } from '../tools.ts';
import { dashboards, queriesOf } from './dashboards.ts';
import { startPrometheus } from './prometheus-server.ts';
import type { Prometheus } from './prometheus-server.ts';

interface Result {
  readonly result: readonly { readonly value: readonly [time: number, value: string] }[];
}

const PATIENT = { timeout: 60_000, interval: 500 };

/**
 * The real server under load, with a stand-in for nvidia-smi, scraped by a real Prometheus: every
 * panel of the dashboards must show something.
 */
describe.skipIf(lacks('prometheus'))('a Prometheus that scrapes the server', () => {
  let folder: string;
  let server: Server | undefined;
  let prometheus: Prometheus | undefined;
  const stopLoad = new AbortController();
  let loading: Promise<void> | undefined;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'nvidia-smi-'));
    const smi = join(folder, 'nvidia-smi');
    await writeFile(smi, '#!/bin/sh\nwhile sleep 1; do echo "0, 37, 1024, 81559"; done\n');
    await chmod(smi, 0o755);
    server = await startServer({
      EXECUTION_PROVIDER: 'auto',
      PATH: `${folder}${delimiter}${process.env['PATH']}`,
      SHADOW_CHECKS_PER_MINUTE: '600',
    });
    prometheus = await startPrometheus(new URL(server.url).host);
    loading = load(server.url, stopLoad.signal);
  }, 180_000);
  afterAll(async () => {
    stopLoad.abort();
    await loading;
    await prometheus?.stop();
    await server?.stop();
    await rm(folder, { recursive: true });
  });

  const values = async (expr: string) => {
    const { result } = await prometheus!.get<Result>('query', { query: expr });
    return result.map(({ value }) => Number(value[1])).filter((value) => !Number.isNaN(value));
  };

  it('finds it up', async () => {
    await expect.poll(() => values('up'), PATIENT).toEqual([1]);
  }, 90_000);

  it.each(dashboards.flatMap(queriesOf))(
    'has data for "$panel" of $dashboard: $expr',
    async ({ expr }) => {
      await expect.poll(() => values(expr), PATIENT).not.toEqual([]);
    },
    90_000,
  );

  it('offers a value for the variable of the model', async () => {
    await expect
      .poll(() => prometheus!.get('label/model/values'), PATIENT)
      .toEqual(['cifar10-small-resnet']);
  }, 90_000);

  it('evaluates every rule without an error', async () => {
    type Rules = { groups: { rules: { name: string; health: string; lastError?: string }[] }[] };
    const rules = async () =>
      (await prometheus!.get<Rules>('rules')).groups.flatMap((group) => group.rules);
    await expect
      .poll(async () => (await rules()).filter(({ health }) => health !== 'ok'), PATIENT)
      .toEqual([]);
    expect((await rules()).length).toBeGreaterThan(20);
  }, 90_000);

  it.each(['met', 'missed'])(
    'says that budgets were %s',
    async (result) => {
      const total = `sum(depthserve_budget_requests_total{result="${result}"})`;
      await expect.poll(() => values(total), PATIENT).not.toEqual([0]);
    },
    90_000,
  );

  it('gives the autoscalers their values', async () => {
    for (const series of ['load:ratio2m', 'accuracy_lost:mean5m', 'budget_used:p95_5m']) {
      await expect.poll(() => values(`depthserve:${series}`), PATIENT).toHaveLength(1);
    }
    await expect.poll(() => values('depthserve:load:ratio2m'), PATIENT).not.toEqual([0]);
  }, 90_000);
});

/** Requests with every kind of outcome until told to stop: rates are those of the last seconds. */
async function load(url: string, signal: AbortSignal): Promise<void> {
  const budgets = ['20000', '1000', '300', '100', '50', '30', '20', '10', '2'];
  while (!signal.aborted) {
    const replies = await Promise.all(
      budgets.map((budget) => classify(url, CAT, { 'x-latency-budget-ms': budget })),
    );
    for (const { status, body } of replies) {
      if (status !== 200) continue;
      await fetch(`${url}/feedback`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ id: body.id, label: 'cat' }),
      });
    }
    await sleep(1000);
  }
}
