import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { renderSvg } from '../../bench/chart.ts';
import type { Panel, Series } from '../../bench/chart.ts';
import { classify } from '../http/client.ts';
import { startServer } from '../server.ts';
import { startPrometheus } from './prometheus-server.ts';
import type { Prometheus } from './prometheus-server.ts';

/**
 * `npm run pictures`: the dashboards' panels as a real Prometheus answers their queries, while the
 * load on the real server rises beyond what it can do and falls again. Drawn here, not by Grafana.
 */
const FOLDER = process.env['PICTURES'];

const SECONDS = 180;
/** Requests/s in the middle; none at the ends. */
const PEAK = 700;
/** Answered before the picture begins: rates of counters that are near 0 are rough. */
const BEFORE = 100;
const BUDGETS = ['25', '50', '100'];

const SHOWN = {
  service: [
    'Requests by outcome',
    'Refusals by reason',
    'Sub-networks in use',
    'Accuracy delivered',
    'Accuracy lost',
    'Share of the budget used',
    'p95 by stage',
    'p99 by tier',
    'Predicted by actual time',
  ],
  device: [
    'Load',
    'Engine busy share',
    'Images per batch',
    'Queue length',
    'Slowdown',
    'Processor',
  ],
};

const PHOTO = readFileSync('models/cifar10/samples/cat.jpg');

test.runIf(FOLDER)('pictures of the dashboards', { timeout: 600_000 }, async () => {
  const server = await startServer({ MAX_BATCH: '32' });
  const prometheus = await startPrometheus(new URL(server.url).host);
  try {
    for (let sent = 0; sent < BEFORE; sent++) {
      await classify(server.url, PHOTO, { 'x-latency-budget-ms': '60000' });
    }
    await scraped(prometheus, BEFORE);
    const from = Date.now() / 1000;
    const answered = await rampUpAndDown(server.url);
    expect(answered).toBeGreaterThan(1000);
    await scraped(prometheus, BEFORE + answered);
    for (const [name, titles] of Object.entries(SHOWN)) {
      const file = `k8s/overlays/monitoring/dashboards/depthserve-${name}.json`;
      const dashboard = JSON.parse(readFileSync(file, 'utf8')) as Dashboard;
      const panels = dashboard.panels.flatMap((panel) => panel.panels ?? panel);
      const chosen = titles.map((title) => panels.find((panel) => panel.title === title)!);
      const page = renderSvg({
        title: `${dashboard.title}: load up to ${PEAK} requests/s and down again`,
        columns: 3,
        from: 0,
        to: SECONDS,
        ticks: [0, 1, 2, 3].map((minute) => [minute * 60, `${minute} min`] as const),
        panels: await Promise.all(chosen.map((panel) => answeredPanel(prometheus, panel, from))),
      });
      writeFileSync(`${FOLDER}/dashboard-${name}.svg`, page);
    }
  } finally {
    await prometheus.stop();
    await server.stop();
  }
});

/** Waits until Prometheus knows of so many answers. */
async function scraped(prometheus: Prometheus, answers: number): Promise<void> {
  const query = 'sum(depthserve_requests_total{outcome=~"met|late"})';
  const known = async () => {
    const { result } = await prometheus.get<Vector>('query', { query });
    return Number(result[0]?.value[1] ?? 0);
  };
  await expect.poll(known, { timeout: 30_000 }).toBeGreaterThanOrEqual(answers);
}

interface Vector {
  readonly result: readonly { readonly value: readonly [time: number, value: string] }[];
}

/** As much of Grafana's model as is drawn. */
interface GrafanaPanel {
  readonly title: string;
  readonly panels?: readonly GrafanaPanel[];
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
  readonly fieldConfig?: {
    readonly defaults: {
      readonly unit?: string;
      readonly min?: number;
      readonly max?: number;
      readonly custom?: { readonly stacking?: { readonly mode: string } };
    };
  };
}

interface Dashboard {
  readonly title: string;
  readonly panels: readonly GrafanaPanel[];
}

interface Matrix {
  readonly result: readonly {
    readonly metric: Readonly<Record<string, string>>;
    readonly values: readonly (readonly [time: number, value: string])[];
  }[];
}

async function answeredPanel(
  prometheus: Prometheus,
  { title, targets = [], fieldConfig }: GrafanaPanel,
  from: number,
): Promise<Panel> {
  const all = await Promise.all(
    targets.map(async ({ expr, legendFormat }) => {
      const query = expr
        .replaceAll(/\$(namespace|pod|model)/g, '.*')
        .replaceAll('$__rate_interval', '10s');
      const { result } = await prometheus.get<Matrix>('query_range', {
        query,
        start: String(from),
        end: String(from + SECONDS),
        step: '2',
      });
      return result.map(({ metric, values }): Series => ({
        name: legendFormat.replaceAll(/\{\{(\w+)\}\}/g, (_, label: string) => metric[label] ?? ''),
        points: values.map(([time, value]) => {
          const number = Number(value);
          return [time - from, Number.isFinite(number) ? number : null] as const;
        }),
      }));
    }),
  );
  const { unit, min, max, custom } = fieldConfig!.defaults;
  const units: Record<string, Panel['unit']> = { percentunit: 'share', s: 'seconds' };
  const stacking = custom?.stacking?.mode;
  const stacked = stacking === 'percent' ? 'shares' : 'values';
  return {
    title,
    unit: stacking === 'percent' ? 'share' : (units[unit ?? ''] ?? 'number'),
    ...(min !== undefined && { min }),
    ...(max !== undefined && { max }),
    ...(stacking !== undefined && stacking !== 'none' && { stacked }),
    series: all.flat(),
  };
}

/** Sends at the planned times whether or not earlier ones were answered. @returns how many were. */
async function rampUpAndDown(url: string): Promise<number> {
  const begun = performance.now();
  const pending = new Set<Promise<void>>();
  let answered = 0;
  let sent = 0;
  const send = async (budget: string) => {
    const { status } = await classify(url, PHOTO, { 'x-latency-budget-ms': budget });
    if (status === 200) answered++;
  };
  for (;;) {
    const elapsed = (performance.now() - begun) / 1000;
    if (elapsed >= SECONDS) break;
    // The triangle's area so far.
    const half = SECONDS / 2;
    const left = SECONDS - elapsed;
    const due =
      elapsed < half
        ? (PEAK * elapsed ** 2) / 2 / half
        : PEAK * half - (PEAK * left ** 2) / 2 / half;
    for (; sent < due; sent++) {
      const one = send(BUDGETS[sent % BUDGETS.length]!);
      pending.add(one);
      void one.finally(() => pending.delete(one));
    }
    await sleep(2);
  }
  await Promise.all(pending);
  return answered;
}
