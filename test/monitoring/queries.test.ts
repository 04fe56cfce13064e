import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { metricsOf } from '../../k8s/monitoring/promql.ts';
import { dashboards, queriesOf } from './dashboards.ts';
import { servingMetrics } from './metrics.ts';

/** Names as they are scraped: histograms have three. */
async function scrapedNames(): Promise<Set<string>> {
  const families = await servingMetrics().registry.getMetricsAsJSON();
  return new Set(
    families.flatMap(({ name, type }) =>
      String(type) === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
}

const rules = ['recording', 'alerts'].flatMap((file) =>
  (
    parse(readFileSync(`k8s/monitoring/rules/${file}.yaml`, 'utf8')) as {
      groups: { rules: { record?: string; alert?: string; expr: string }[] }[];
    }
  ).groups.flatMap((group) => group.rules),
);
const recorded = rules.flatMap(({ record }) => record ?? []);

describe('every metric that is asked for exists', async () => {
  const known = new Set([...(await scrapedNames()), ...recorded]);

  it.each(rules)('in the rule $record$alert', ({ expr }) => {
    expect(metricsOf(expr).filter((name) => !known.has(name))).toEqual([]);
  });

  it.each(dashboards.flatMap(queriesOf))('in the panel "$panel" of $dashboard', ({ expr }) => {
    const names = metricsOf(expr);
    expect(names).not.toEqual([]);
    expect(names.filter((name) => !known.has(name))).toEqual([]);
  });

  it.each(['k8s/components/keda/scaled-object.yaml'])('in the triggers of %s', (file) => {
    const { spec } = parse(readFileSync(file, 'utf8')) as {
      spec: { triggers: { metadata: { query?: string } }[] };
    };
    const names = spec.triggers.flatMap(({ metadata: { query } }) =>
      query ? metricsOf(query) : [],
    );
    expect(names).not.toEqual([]);
    expect(names.filter((name) => !known.has(name))).toEqual([]);
  });

  it("in the adapter's rules", () => {
    const { rules: offered } = parse(readFileSync('k8s/prometheus-adapter.yaml', 'utf8')) as {
      rules: { custom: { seriesQuery: string }[] };
    };
    const names = offered.custom.flatMap(({ seriesQuery }) => metricsOf(seriesQuery));
    expect(names.filter((name) => !known.has(name))).toEqual([]);
  });
});

describe('metricsOf', () => {
  it('tells metrics from labels and functions', () => {
    const expression = 'sum by (tier) (rate(a_total{b="c"}[5m])) / on (pod) group_left d:e:f';
    expect(metricsOf(expression)).toEqual(['a_total', 'd:e:f']);
  });

  it('refuses what Prometheus would', () => {
    expect(() => metricsOf('sum(rate(a_total[5m])')).toThrow(SyntaxError);
  });
});
