import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { deviceDashboard } from '../../k8s/monitoring/dashboards/device.ts';
import { serviceDashboard } from '../../k8s/monitoring/dashboards/service.ts';
import { metricsDoc } from '../../k8s/monitoring/metrics-doc.ts';
import { prometheusRule } from '../../k8s/monitoring/prometheus-rule.ts';
import { servingMetrics } from './metrics.ts';

// Written by `npm run generate`, which is this file with vitest's --update.

const OVERLAY = '../../k8s/overlays/monitoring';

it('docs/metrics.md is what src/telemetry/metrics.ts says', async () => {
  const metrics = servingMetrics();
  await expect(await metricsDoc(metrics)).toMatchFileSnapshot('../../docs/metrics.md');
});

it.each([serviceDashboard(), deviceDashboard()])('the dashboard $uid is current', async (made) => {
  const json = `${JSON.stringify(made, null, 2)}\n`;
  await expect(json).toMatchFileSnapshot(`${OVERLAY}/dashboards/${made.uid}.json`);
});

it('the PrometheusRule holds the rules of k8s/monitoring/rules', async () => {
  const files = await Promise.all(
    ['recording', 'alerts'].map(async (name) => {
      return parse(await readFile(`k8s/monitoring/rules/${name}.yaml`, 'utf8')) as {
        groups: object[];
      };
    }),
  );
  await expect(prometheusRule(files)).toMatchFileSnapshot(`${OVERLAY}/prometheus-rule.yaml`);
});
