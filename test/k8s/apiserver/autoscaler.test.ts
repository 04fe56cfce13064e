import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { hpa, keda, pod } from '../../../bench/autoscale/manifests.ts';
import { Autoscaler, SYNC_SECONDS, replicasWanted } from '../../../bench/simulator/autoscale.ts';
import type { Limits, PodState } from '../../../bench/simulator/autoscale.ts';
import { only, parse } from '../render.ts';
import type { Resource } from '../render.ts';
import { startCluster } from './cluster.ts';
import type { Cluster } from './cluster.ts';
import { serveMetrics } from './metrics.ts';
import type { MetricsServer } from './metrics.ts';

const PODS = '/api/v1/namespaces/depthserve/pods';
const SCALE = '/apis/apps/v1/namespaces/depthserve/deployments/depthserve/scale';
const AUTOSCALERS = '/apis/autoscaling/v2/namespaces/depthserve/horizontalpodautoscalers';
const PATIENCE = 300_000;

/** No limit on how fast or how far, so that the arithmetic alone decides. */
const anyStep = {
  stabilizationWindowSeconds: 0,
  selectPolicy: 'Max',
  policies: [{ type: 'Pods', value: 100, periodSeconds: 15 }],
} as const;
const FREE: Limits = { min: 1, max: 100, up: anyStep, down: anyStep };

/** Figures of pods that run, by metric; null: silent. Metrics that are not named are 0. */
type Figures = Readonly<Record<string, readonly (number | null)[]>>;

/** `npm run test:kubernetes`: builds Kubernetes first, so it is not part of `npm test`. */
describe.runIf(process.env['KUBERNETES'])("Kubernetes' controller and the simulation", () => {
  let cluster: Cluster;
  let metrics: MetricsServer;
  let shipped: Resource;

  beforeAll(async () => {
    cluster = await startCluster();
    metrics = await serveMetrics(cluster);
    cluster.startControllers();
    const manifests = cluster.kubectl(['kustomize', 'k8s/overlays/cpu']);
    cluster.kubectl(['apply', '-f', '-'], manifests);
    shipped = only(parse(manifests), 'HorizontalPodAutoscaler');
  }, PATIENCE);
  afterAll(async () => {
    await metrics.stop();
    await cluster.stop();
  });

  test.each<[string, Figures, { starting: number; wanted: number }]>([
    ['twice the load', { depthserve_load: [2, 2, 2] }, { starting: 0, wanted: 6 }],
    ['half the load', { depthserve_load: [0.5, 0.5, 0.5, 0.5] }, { starting: 0, wanted: 2 }],
    ['3.9 pods, rounded up', { depthserve_load: [1.3, 1.3, 1.3] }, { starting: 0, wanted: 4 }],
    ['the mean over pods', { depthserve_load: [1.5, 0.5, 2.5] }, { starting: 0, wanted: 5 }],
    ['a tenth above', { depthserve_load: [1.09, 1.09, 1.09] }, { starting: 0, wanted: 3 }],
    ['a tenth below', { depthserve_load: [0.91, 0.91, 0.91] }, { starting: 0, wanted: 3 }],
    // The largest proposal wins: each guardrail beside a load that asks for less.
    [
      'accuracy lost',
      { depthserve_load: [0.3, 0.3], depthserve_accuracy_lost_mean: [0.01, 0.01] },
      { starting: 0, wanted: 4 },
    ],
    [
      'queues',
      { depthserve_load: [0.3, 0.3], depthserve_queue_length: [192, 64] },
      { starting: 0, wanted: 4 },
    ],
    [
      'late answers',
      { depthserve_load: [0.3, 0.3], depthserve_budget_used_p95: [1.5, 1.5] },
      { starting: 0, wanted: 3 },
    ],
    [
      'processor use',
      { depthserve_load: [0.3, 0.3], cpu: [1.35, 1.35] },
      { starting: 0, wanted: 3 },
    ],
    // A pod that starts counts as idle when more are wanted, and not at all when fewer are.
    ['more, one starting', { depthserve_load: [3, 3] }, { starting: 1, wanted: 6 }],
    ['near enough, one starting', { depthserve_load: [1.6, 1.6] }, { starting: 1, wanted: 3 }],
    ['fewer, one starting', { depthserve_load: [0.5, 0.5] }, { starting: 1, wanted: 1 }],
    // A silent pod counts as idle when more are wanted, as on target when fewer are.
    ['more, one silent', { depthserve_load: [3, 3, null] }, { starting: 0, wanted: 6 }],
    ['fewer, one silent', { depthserve_load: [0.2, 0.2, null] }, { starting: 0, wanted: 2 }],
    [
      'processor use, one silent',
      { depthserve_load: [0.3, 0.3, 0.3], cpu: [0.2, 0.2, null] },
      { starting: 0, wanted: 2 },
    ],
  ])(
    'agree by the mean over pods: %s',
    async (_, figures, { starting, wanted }) => {
      const running = Object.values(figures)[0]!.length;
      const of = (metric: string) => figures[metric] ?? Array.from({ length: running }, () => 0);
      const names = shipped['spec'].metrics.map(
        ({ pods, resource }: Resource) => resource?.name ?? pods.metric.name,
      ) as string[];
      const simulated = hpa().metrics.map((metric, i) => {
        const pods = [...of(names[i]!).map(isRunning), ...isStarting(starting)];
        return replicasWanted(metric, pods.length, pods, null);
      });
      expect(new Autoscaler(FREE).decide(0, running + starting, simulated)).toBe(wanted);

      const pods = await runPods(running, starting);
      const byPod = (metric: string) =>
        Object.fromEntries(
          of(metric).flatMap((value, i) =>
            value === null ? [] : [[pods[i]!, metric === 'cpu' ? value * pod().cores : value]],
          ),
        );
      metrics.pods = Object.fromEntries(names.map((name) => [name, byPod(name)]));
      expect(await decision(shipped['spec'].metrics)).toBe(wanted);
    },
    PATIENCE,
  );

  // Load, accuracy lost, queue, share of the budget used: as KEDA's triggers have them.
  test.each([
    ['loads added up', [6.2, 0, 0, 0], { running: 4, starting: 0, wanted: 7 }],
    ['loads near enough', [4.3, 0, 0, 0], { running: 4, starting: 0, wanted: 4 }],
    ['accuracy lost', [1, 0.01, 0, 0], { running: 4, starting: 0, wanted: 8 }],
    ['accuracy lost, one starting', [1, 0.01, 0, 0], { running: 3, starting: 1, wanted: 6 }],
    ['queues added up', [1, 0, 300, 0], { running: 4, starting: 0, wanted: 5 }],
    ['the latest pod', [1, 0, 0, 1.5], { running: 4, starting: 0, wanted: 6 }],
  ] as const)(
    'agree by one value for all: %s',
    async (_, values, { running, starting, wanted }) => {
      const rules = keda().metrics.filter(({ kind }) => kind !== 'cpu');
      const pods = [
        ...Array.from({ length: running }, () => isRunning(0)),
        ...isStarting(starting),
      ];
      const simulated = rules.map((rule, i) => replicasWanted(rule, pods.length, pods, values[i]!));
      expect(new Autoscaler(FREE).decide(0, pods.length, simulated)).toBe(wanted);

      await runPods(running, starting);
      metrics.external = Object.fromEntries(values.map((value, i) => [`trigger-${i}`, value]));
      const external = rules.map(({ kind, target }, i) => ({
        type: 'External',
        external: {
          metric: { name: `trigger-${i}` },
          target:
            kind === 'value'
              ? { type: 'Value', value: `${target * 1000}m` }
              : { type: 'AverageValue', averageValue: `${target * 1000}m` },
        },
      }));
      expect(await decision(external)).toBe(wanted);
    },
    PATIENCE,
  );

  test('leaves the number as it is when no metric has a value', async () => {
    expect(new Autoscaler(FREE).decide(0, 3, [null, null])).toBe(3);
    await runPods(3, 0);
    metrics.pods = {};
    expect(await decision(shipped['spec'].metrics)).toBeNull();
    expect(await cluster.call('GET', SCALE)).toMatchObject({ spec: { replicas: 3 } });
  });

  test(
    'grow in the same steps, as the manifest limits them',
    async () => {
      // Ten times what a pod should answer, whatever their number.
      const load = (replicas: number) => Array.from({ length: replicas }, () => 10 / replicas);
      const autoscaler = new Autoscaler(hpa());
      const simulated = [2];
      for (let second = 0; simulated.at(-1)! < 10; second += SYNC_SECONDS) {
        const now = simulated.at(-1)!;
        const wanted = replicasWanted(hpa().metrics[0]!, now, load(now).map(isRunning), null);
        const next = autoscaler.decide(second, now, [wanted]);
        if (next !== now) simulated.push(next);
      }
      expect(simulated).toEqual([2, 4, 8, 10]);

      const steps: number[] = [];
      await runPods(2, 0);
      await create(shipped['spec']);
      await vi.waitFor(async () => {
        const { spec } = await cluster.call('GET', SCALE);
        if (spec.replicas !== steps.at(-1)) steps.push(spec.replicas);
        const names = await runAll(spec.replicas);
        const each = (value: number) => Object.fromEntries(names.map((name) => [name, value]));
        metrics.pods = { depthserve_load: each(10 / names.length), cpu: each(0) };
        expect(steps.at(-1)).toBe(10);
      }, PATIENCE);
      expect(steps).toEqual(simulated);
    },
    PATIENCE,
  );

  /** Gives the Deployment new pods and plays the node that runs them. @returns their names. */
  async function runPods(running: number, starting: number): Promise<readonly string[]> {
    await cluster.call('DELETE', `${AUTOSCALERS}/depthserve`);
    await resize(0);
    await resize(running + starting);
    return runAll(running);
  }

  async function resize(replicas: number): Promise<void> {
    await cluster.call('PATCH', SCALE, { spec: { replicas } });
    await vi.waitFor(async () => expect(await pods()).toHaveLength(replicas), PATIENCE);
  }

  const pods = async () => (await cluster.call('GET', PODS))['items'] as readonly Resource[];

  /** Lets as many pods run, for an hour already. @returns their names. */
  async function runAll(running: number): Promise<readonly string[]> {
    const names = (await pods()).slice(0, running).map(({ metadata }) => metadata.name as string);
    const since = new Date(Date.now() - 3_600_000).toISOString().replace(/\.\d+/, '');
    const ready = { type: 'Ready', status: 'True', lastTransitionTime: since };
    const status = { phase: 'Running', startTime: since, conditions: [ready] };
    for (const name of names) await cluster.call('PATCH', `${PODS}/${name}/status`, { status });
    return names;
  }

  async function create(spec: Resource): Promise<void> {
    const metadata = { name: 'depthserve' };
    const created = await cluster.call('POST', AUTOSCALERS, { metadata, spec });
    expect(created).toHaveProperty('metadata.uid');
  }

  /** What the controller wants at its first look; null: it cannot tell. */
  async function decision(wantedBy: readonly Resource[]): Promise<number | null> {
    const { min, max, up, down } = FREE;
    const behavior = { scaleUp: up, scaleDown: down };
    const target = { scaleTargetRef: shipped['spec'].scaleTargetRef, metrics: wantedBy };
    await create({ ...target, minReplicas: min, maxReplicas: max, behavior });
    const active = await vi.waitFor(async () => {
      const { status } = await cluster.call('GET', `${AUTOSCALERS}/depthserve`);
      const { conditions = [], desiredReplicas } = status as Resource;
      const found = conditions.find(({ type }: Resource) => type === 'ScalingActive');
      expect(found).toBeDefined();
      return found.status === 'True' ? (desiredReplicas as number) : null;
    }, PATIENCE);
    await cluster.call('DELETE', `${AUTOSCALERS}/depthserve`);
    return active;
  }
});

const isRunning = (value: number | null): PodState => ({ pending: false, ready: true, value });
const isStarting = (count: number): PodState[] =>
  Array.from({ length: count }, () => ({ pending: true, ready: false, value: null }));
