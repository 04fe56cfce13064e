import type { Metrics } from '../../src/telemetry/metrics.ts';

/** What prom-client keeps of a metric but does not declare. */
interface Registered {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  readonly upperBounds?: readonly number[];
}

const HEAD = `# Metrics

\`GET /metrics\` answers in the Prometheus text format. This page is made from src/telemetry by
\`npm run generate\`; a test fails when it is out of date.

Every metric has the label \`model\`. All labels are bounded: \`tier\` is a sub-network of the model
(its skip flags, first stage first; at most 2^stages), \`outcome\` and \`reason\` are \`met\`, \`late\` or
an error code, \`batch\` is 1, 2, 4, 8, 16 or 32, up to MAX_BATCH. There is no label for clients,
request ids or addresses.

Some ratios that are worth knowing. Of the first, k8s/monitoring/rules records the opposite, the
share that missed its budget; the second as it is; and the third for each pod:

| question | PromQL |
|---|---|
| share of requests answered within budget | \`sum(rate(depthserve_budget_requests_total{result="met"}[5m])) / sum(rate(depthserve_budget_requests_total[5m]))\` |
| mean serving accuracy | \`sum(rate(depthserve_accuracy_delivered_total[5m])) / sum(rate(depthserve_requests_total{outcome="met"}[5m]))\` |
| busy share of the engines | \`sum(rate(depthserve_engine_busy_seconds_total[5m])) / sum(depthserve_engines)\` |
| share of the super-net's work that was saved | \`1 - sum(rate(depthserve_macs_total[5m])) / sum(rate(depthserve_super_net_macs_total[5m]))\` |
| images decoded in vain, per answered image | \`sum(rate(depthserve_decoded_in_vain_total[5m])) / sum(rate(depthserve_looks_total{look="first"}[5m]))\` |
| agreement of a tier with the super-net | \`sum by (tier) (depthserve_shadow_answers_total{agreement="agree"}) / sum by (tier) (depthserve_shadow_answers_total)\` |

`;

/** docs/metrics.md. */
export async function metricsDoc({ registry }: Metrics): Promise<string> {
  const types = new Map(
    (await registry.getMetricsAsJSON()).map(({ name, type }) => [name, String(type)]),
  );
  const all = registry.getMetricsAsArray() as unknown as readonly Registered[];
  const rows = (ours: boolean) =>
    all
      .filter(({ name }) => name.startsWith('depthserve_') === ours)
      .toSorted((a, b) => a.name.localeCompare(b.name))
      .map((metric) => row(metric, types.get(metric.name)!));
  return [
    HEAD,
    ...table(rows(true)),
    '\n## Of the process\n\nBy prom-client: memory, processor time, event loop, garbage collection.\n\n',
    ...table(rows(false)),
  ].join('');
}

function table(rows: readonly string[]): readonly string[] {
  return ['| metric | type | labels | meaning |\n|---|---|---|---|\n', ...rows];
}

function row({ name, help, labelNames, upperBounds }: Registered, type: string): string {
  const labels = labelNames.filter((label) => label !== 'le').map((label) => `\`${label}\``);
  const meaning = help.replaceAll('|', '\\|').replace(/\.$/, '');
  const buckets = upperBounds ? `. Buckets: ${upperBounds.join(', ')}` : '';
  return `| \`${name}\` | ${type} | ${labels.join(', ')} | ${meaning}${buckets} |\n`;
}
