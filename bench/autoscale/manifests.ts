/** What k8s/ says, read from the files that a cluster would get. */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { metricsOf } from '../../k8s/monitoring/promql.ts';
import type { ScalingRules } from '../simulator/autoscale.ts';
import type { Metric, Rule } from '../simulator/fleet.ts';
import { SERIES } from '../simulator/series.ts';

// oxlint-disable-next-line typescript/no-explicit-any -- the schemas in k8s/schemas check them
type Yaml = any;

const read = (file: string): Yaml => parse(readFileSync(`k8s/${file}`, 'utf8'));

/** The HorizontalPodAutoscaler, its metrics resolved by what the Prometheus adapter offers. */
export function hpa(): Rule {
  const { spec } = read('components/hpa/autoscaler.yaml');
  const offered: Yaml[] = read('prometheus-adapter.yaml').rules.custom;
  return {
    min: spec.minReplicas,
    max: spec.maxReplicas,
    ...behaviour(spec.behavior),
    metrics: spec.metrics.map(({ pods, resource }: Yaml): Metric => {
      if (resource) return processor(resource.target.averageUtilization / 100);
      const { metric, target } = pods;
      const rule = offered.find(
        ({ name, seriesQuery }) => (name?.as ?? seriesQuery) === metric.name,
      );
      if (!rule) throw new Error(`the adapter does not offer ${metric.name}`);
      return {
        kind: 'pods',
        target: quantity(target.averageValue),
        series: known(rule.seriesQuery),
        overSeconds: averagedOver(rule.metricsQuery),
        across: null,
      };
    }),
  };
}

/** The ScaledObject, as KEDA would turn it into an autoscaler with external metrics. */
export function keda(): Rule {
  const { spec } = read('components/keda/scaled-object.yaml');
  return {
    min: spec.minReplicaCount,
    max: spec.maxReplicaCount,
    ...behaviour(spec.advanced.horizontalPodAutoscalerConfig.behavior),
    metrics: spec.triggers.map(({ type, metricType, metadata }: Yaml): Metric => {
      if (type === 'cpu') return processor(Number(metadata.value) / 100);
      const { query, threshold } = metadata as { query: string; threshold: string };
      const across = /^(avg|sum|max)\(/.exec(query)?.[1];
      const [series, ...more] = metricsOf(query);
      if (!across || series === undefined || more.length > 0) {
        throw new Error(`a query that the simulation does not understand: ${query}`);
      }
      return {
        kind: metricType === 'AverageValue' ? 'average' : 'value',
        target: Number(threshold),
        series: known(series),
        overSeconds: averagedOver(query),
        across: across as 'avg' | 'sum' | 'max',
      };
    }),
  };
}

/** The same limits and behaviour, driven by processor use instead (share of the request). */
export function byProcessor(rule: Rule, target: number): Rule {
  return { ...rule, metrics: [processor(target)] };
}

function processor(target: number): Metric {
  return { kind: 'cpu', target, series: 'cpu', overSeconds: 0, across: null };
}

/** The settings that a pod of this overlay gets. */
export function settings(overlay: 'cpu' | 'gpu'): Record<string, string> {
  const literals = ['base', `overlays/${overlay}`].flatMap(
    (folder): string[] => read(`${folder}/kustomization.yaml`).configMapGenerator[0].literals,
  );
  return Object.fromEntries(
    literals.map((literal) => {
      const [name, ...value] = literal.split('=');
      return [name!, value.join('=')];
    }),
  );
}

/** What the simulation needs of a pod beside its settings. */
export function pod(): { cores: number; probeSeconds: number; preStopSeconds: number } {
  const [resources] = read('overlays/cpu/resources.yaml').spec.template.spec.containers;
  const [container] = read('base/deployment.yaml').spec.template.spec.containers;
  return {
    cores: quantity(resources.resources.requests.cpu),
    probeSeconds: container.startupProbe.periodSeconds,
    preStopSeconds: container.lifecycle.preStop.sleep.seconds,
  };
}

function behaviour({ scaleUp, scaleDown }: Yaml): { up: ScalingRules; down: ScalingRules } {
  const rules = (given: Yaml): ScalingRules => ({ selectPolicy: 'Max', ...given });
  return { up: rules(scaleUp), down: rules(scaleDown) };
}

function known(series: string): string {
  if (!(series in SERIES)) throw new Error(`the simulation has no series ${series}`);
  return series;
}

/** Seconds of an avg_over_time(...[30s]); 0 without. */
function averagedOver(query: string): number {
  return Number(/avg_over_time\(.*\[(\d+)s\]/.exec(query)?.[1] ?? 0);
}

/** `10m` is 0.01. */
function quantity(text: string | number): number {
  const [, digits, milli] = /^([\d.]+)(m?)$/.exec(String(text)) ?? [];
  if (digits === undefined) throw new Error(`not a quantity: ${text}`);
  return Number(digits) / (milli ? 1000 : 1);
}
