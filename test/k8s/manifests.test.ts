import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { readConfig } from '../../src/config.ts';
import { lacks } from '../tools.ts';
import { TARGETS, only, parse, render, validate } from './render.ts';
import type { Resource } from './render.ts';

/** Of the shipped model under overload, with these manifests' settings (docs/operations.md). */
const RESIDENT_BYTES = 940 * 1024 ** 2;

/** At most that a decoder holds of a picture: interlaced PNG of 16 bits with alpha. */
const PIXEL_BYTES = 9;

const noKustomize = lacks('kubectl') && lacks('kustomize');

describe.skipIf(noKustomize || lacks('kubeconform'))('the schemas', () => {
  it.each(TARGETS)('hold for every manifest of %s', (target) => {
    expect(validate(render(target))).toEqual({ code: 0, output: '' });
  });

  it.each([
    ['Deployment', 'overlays/cpu', 'periodSeconds: 2', 'periodSecond: 2'],
    ['Service', 'overlays/cpu', 'targetPort:', 'targetport:'],
    ['NetworkPolicy', 'overlays/cpu', 'policyTypes:', 'policyType:'],
    ['PodDisruptionBudget', 'overlays/cpu', 'maxUnavailable: 1', 'maxUnavailables: 1'],
    ['HorizontalPodAutoscaler', 'overlays/cpu', 'averageValue: 5m', 'averageVale: 5m'],
    ['ScaledObject', 'overlays/gpu', 'pollingInterval:', 'pollInterval:'],
    ['ServiceMonitor', 'overlays/monitoring', 'scrapeTimeout:', 'scrapeTimeOut:'],
    [
      'PrometheusRule',
      'overlays/monitoring',
      'annotations:\n        description',
      'annotation:\n        description',
    ],
    ['InferenceService', 'kserve', 'storageUri:', 'storageURI:'],
    ['ServingRuntime', 'kserve', 'autoSelect:', 'autoselect:'],
  ] as const)('find an unknown field in %s', (kind, target, right, wrong) => {
    const { code, output } = validate(plant(render(target), right, wrong));
    expect(code).toBe(1);
    expect(output).toContain(kind);
    expect(output).toMatch(/additional ?propert/i);
  });

  it.each([
    [
      'Deployment',
      'overlays/cpu',
      'terminationGracePeriodSeconds: 45',
      'terminationGracePeriodSeconds: 45s',
    ],
    ['Service', 'overlays/cpu', 'port: 80', 'port: http'],
    ['HorizontalPodAutoscaler', 'overlays/cpu', 'maxReplicas: 10', 'maxReplicas: many'],
    ['ScaledObject', 'overlays/gpu', 'pollingInterval: 15', 'pollingInterval: 15s'],
    ['ServiceMonitor', 'overlays/monitoring', 'sampleLimit: 6000', 'sampleLimit: some'],
    ['PrometheusRule', 'overlays/monitoring', 'groups:', 'groups: none\n  x:'],
    ['InferenceService', 'kserve', 'minReplicas: 2', 'minReplicas: two'],
    ['ServingRuntime', 'kserve', 'autoSelect: true', 'autoSelect: 1'],
  ] as const)('find a wrong type in %s', (kind, target, right, wrong) => {
    const { code, output } = validate(plant(render(target), right, wrong));
    expect(code).toBe(1);
    expect(output).toContain(kind);
    expect(output).toMatch(/got (string|number), want|expected \w+, but got/);
  });
});

describe.skipIf(noKustomize).each(['overlays/cpu', 'overlays/gpu'] as const)('%s', (target) => {
  const resources = noKustomize ? [] : parse(render(target));
  const pod = () => only(resources, 'Deployment')['spec'].template.spec as Resource;
  const container = () => pod()['containers'][0] as Resource;
  const settings = () => {
    const own = Object.fromEntries(
      (container()['env'] ?? []).map(({ name, value }: Resource) => [name, value]),
    ) as Record<string, string>;
    return { ...only(resources, 'ConfigMap')['data'], ...own } as Record<string, string>;
  };

  it('gives the server settings that it takes', () => {
    expect(() => readConfig(settings())).not.toThrow();
  });

  it('leaves time for preStop and the whole drain before the pod is killed', () => {
    const drain = readConfig(settings()).DRAIN_TIMEOUT_MS / 1000;
    const preStop = container()['lifecycle'].preStop.sleep.seconds as number;
    expect(pod()['terminationGracePeriodSeconds']).toBeGreaterThanOrEqual(preStop + drain + 5);
    // A pod that leaves is taken off the endpoints before its server refuses anything.
    const { periodSeconds, failureThreshold } = container()['readinessProbe'];
    expect(preStop).toBeGreaterThanOrEqual(periodSeconds * failureThreshold);
  });

  it('has room in its memory limit for hostile clients', () => {
    const { limits } = container()['resources'] as Resource;
    const [, amount, unit] = /^(\d+)(Gi|Mi)$/.exec(limits['memory'] as string)!;
    const limit = Number(amount) * 1024 ** (unit === 'Gi' ? 3 : 2);
    const { MAX_BYTES_IN_FLIGHT, MAX_DECODES, MAX_IMAGE_PIXELS } = readConfig(settings());
    const decoding = MAX_DECODES * MAX_IMAGE_PIXELS * PIXEL_BYTES;
    expect(limit).toBeGreaterThan(RESIDENT_BYTES + 3 * MAX_BYTES_IN_FLIGHT + decoding);
  });

  it('starts slowly without being killed, and is ready only when it is', () => {
    const { startupProbe, readinessProbe, livenessProbe } = container();
    expect(startupProbe.periodSeconds * startupProbe.failureThreshold).toBeGreaterThanOrEqual(120);
    expect(startupProbe.httpGet.path).toBe('/health/ready');
    expect(readinessProbe.httpGet.path).toBe('/health/ready');
    expect(livenessProbe.httpGet.path).toBe('/health/live');
  });

  it('satisfies the restricted pod security standard', () => {
    expect(pod()['securityContext']).toMatchObject({
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    expect(container()['securityContext']).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    expect(pod()).not.toHaveProperty('hostNetwork');
    const kinds = (pod()['volumes'] as Resource[]).flatMap((volume) => Object.keys(volume));
    expect(kinds).not.toContain('hostPath');
    expect(only(resources, 'Namespace')['metadata'].labels).toMatchObject({
      'pod-security.kubernetes.io/enforce': 'restricted',
    });
  });

  it('selects its own pods in every resource that selects', () => {
    const labels = only(resources, 'Deployment')['spec'].template.metadata.labels as Resource;
    const selectors = [
      only(resources, 'Deployment')['spec'].selector.matchLabels,
      only(resources, 'Service')['spec'].selector,
      only(resources, 'PodDisruptionBudget')['spec'].selector.matchLabels,
      only(resources, 'NetworkPolicy')['spec'].podSelector.matchLabels,
      ...pod()['topologySpreadConstraints'].map(
        (spread: Resource) => spread['labelSelector'].matchLabels,
      ),
    ];
    for (const selector of selectors) expect(labels).toMatchObject(selector);
  });

  it('leaves the number of replicas to one autoscaler', () => {
    expect(only(resources, 'Deployment')['spec']).not.toHaveProperty('replicas');
    const scalers = resources.filter(({ kind }) =>
      ['HorizontalPodAutoscaler', 'ScaledObject'].includes(kind as string),
    );
    expect(scalers).toHaveLength(1);
    expect(scalers[0]!['spec'].scaleTargetRef.name).toBe('depthserve');
  });

  it('uses the ports that exist by name', () => {
    const names = container()['ports'].map((port: Resource) => port['name']);
    expect(names).toContain(only(resources, 'Service')['spec'].ports[0].targetPort);
    expect(names).toContain(only(resources, 'NetworkPolicy')['spec'].ingress[0].ports[0].port);
  });
});

describe.skipIf(noKustomize)('overlays/gpu', () => {
  const resources = noKustomize ? [] : parse(render('overlays/gpu'));
  const { containers, volumes } = noKustomize
    ? { containers: [], volumes: [] }
    : only(resources, 'Deployment')['spec'].template.spec;

  it('asks for a GPU and refuses to serve without', () => {
    expect(containers[0].resources.limits['nvidia.com/gpu']).toBe('1');
    expect(only(resources, 'ConfigMap')['data'].EXECUTION_PROVIDER).toBe('cuda');
  });

  it('reads the model from a volume', () => {
    const folder = only(resources, 'ConfigMap')['data'].MODEL_DIR as string;
    const mount = containers[0].volumeMounts.find(({ mountPath }: Resource) =>
      folder.startsWith(`${mountPath}/`),
    );
    const volume = volumes.find(({ name }: Resource) => name === mount.name);
    expect(volume.persistentVolumeClaim.claimName).toBe(
      only(resources, 'PersistentVolumeClaim')['metadata'].name,
    );
  });
});

describe.skipIf(noKustomize)('the HorizontalPodAutoscaler', () => {
  it('reads metrics that the adapter offers', () => {
    const { rules } = parseYaml(readFileSync('k8s/prometheus-adapter.yaml', 'utf8')) as Resource;
    const offered = rules.custom.map(
      ({ seriesQuery, name }: Resource) => name?.as ?? seriesQuery,
    ) as string[];
    const wanted = only(parse(render('overlays/cpu')), 'HorizontalPodAutoscaler')[
      'spec'
    ].metrics.flatMap(({ pods }: Resource) => pods?.metric.name ?? []) as string[];
    expect(wanted).toContain('depthserve_load');
    expect(offered).toEqual(expect.arrayContaining(wanted));
  });
});

/** A copy with one mistake; the place must exist, or the test would prove nothing. */
function plant(manifests: string, right: string, wrong: string): string {
  if (!manifests.includes(right)) throw new Error(`no "${right}" to spoil`);
  return manifests.replace(right, wrong);
}
