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

/**
 * The real server under load, with a stand-in for nvidia-smi, scraped by a real Prometheus: every
 * panel of the dashboards must show something.
 */
describe.skipIf(lacks('prometheus'))('a Prometheus that scrapes the server', () => {
  let folder: string;
  let server: Server | undefined;
  let prometheus: Prometheus | undefined;

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
    await load(server.url);
  }, 180_000);
  afterAll(async () => {
    await prometheus?.stop();
    await server?.stop();
    await rm(folder, { recursive: true });
  });

  const values = async (expr: string) => {
    const { result } = await prometheus!.get<Result>('query', { query: expr });
    return result.map(({ value }) => Number(value[1])).filter((value) => !Number.isNaN(value));
  };

  it('finds it up', async () => {
    expect(await values('up')).toEqual([1]);
  });

  it.each(dashboards.flatMap(queriesOf))(
    'has data for "$panel" of $dashboard: $expr',
    async ({ expr }) => {
      await expect.poll(() => values(expr), { timeout: 20_000, interval: 500 }).not.toEqual([]);
    },
  );

  it('offers a value for the variable of the model', async () => {
    expect(await prometheus!.get('label/model/values')).toEqual(['cifar10-small-resnet']);
  });

  it('evaluates every rule without an error', async () => {
    type Rules = { groups: { rules: { name: string; health: string; lastError?: string }[] }[] };
    const rules = async () =>
      (await prometheus!.get<Rules>('rules')).groups.flatMap((group) => group.rules);
    await expect
      .poll(async () => (await rules()).filter(({ health }) => health !== 'ok'), {
        timeout: 20_000,
      })
      .toEqual([]);
    expect((await rules()).length).toBeGreaterThan(20);
  });

  it('says that the budget was kept and missed', async () => {
    expect(await values('sum(depthserve_budget_requests_total{result="met"})')).not.toEqual([0]);
    expect(await values('sum(depthserve_budget_requests_total{result="missed"})')).not.toEqual([0]);
  });

  it('gives the autoscalers a value, idle or not', async () => {
    expect(await values('depthserve:accuracy_lost:mean5m')).toHaveLength(1);
    expect(await values('depthserve:budget_used:p95_5m')).toHaveLength(1);
  });
});

/** Half a minute of requests with every kind of outcome; rates need several scrapes of each. */
async function load(url: string): Promise<void> {
  const budgets = ['20000', '1000', '300', '100', '50', '30', '20', '10', '2'];
  for (let round = 0; round < 12; round++) {
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
