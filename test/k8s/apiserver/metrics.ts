import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Resource } from '../render.ts';
import type { Cluster } from './cluster.ts';

/** What the metrics' APIs answer: set by a test, asked by the autoscaler's controller. */
export interface MetricsServer {
  /** By metric, by pod; `cpu` in cores. A pod that is not named is silent. */
  pods: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** External metrics by name. */
  external: Readonly<Record<string, number>>;
  stop(): Promise<void>;
}

const APISERVICES = '/apis/apiregistration.k8s.io/v1/apiservices';
const GROUPS: Record<string, { version: string; resource: string }> = {
  'metrics.k8s.io': { version: 'v1beta1', resource: 'pods' },
  'custom.metrics.k8s.io': { version: 'v1beta2', resource: 'pods/any' },
  'external.metrics.k8s.io': { version: 'v1beta1', resource: 'any' },
};

/** Stands where metrics-server, the Prometheus adapter and KEDA would, and is registered so. */
export async function serveMetrics(cluster: Cluster): Promise<MetricsServer> {
  const metrics: MetricsServer = { pods: {}, external: {}, stop };
  const server = createServer(cluster.tls, (request, response) => {
    const answer = find(metrics, new URL(request.url!, 'https://localhost').pathname);
    response.writeHead(answer ? 200 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer ?? {}));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const service = {
    metadata: { name: 'metrics' },
    spec: { type: 'ExternalName', externalName: 'localhost' },
  };
  const SERVICES = '/api/v1/namespaces/default/services';
  // A server that is ready may still be making this namespace.
  while (!(await cluster.call('POST', SERVICES, service))['spec']) await sleep(200);
  for (const [group, { version }] of Object.entries(GROUPS)) {
    await cluster.call('POST', APISERVICES, {
      metadata: { name: `${version}.${group}` },
      spec: {
        group,
        version,
        groupPriorityMinimum: 100,
        versionPriority: 100,
        insecureSkipTLSVerify: true,
        service: { namespace: 'default', name: 'metrics', port },
      },
    });
  }
  // The server asks each of them first. (kubectl would block this process, which must answer.)
  for (const [group, { version }] of Object.entries(GROUPS)) {
    while (!(await isAvailable(cluster, `${version}.${group}`))) await sleep(200);
  }
  return metrics;

  async function stop() {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

async function isAvailable(cluster: Cluster, name: string): Promise<boolean> {
  const { status } = await cluster.call('GET', `${APISERVICES}/${name}`);
  const conditions = (status?.conditions ?? []) as readonly Resource[];
  return conditions.some(({ type, status }) => type === 'Available' && status === 'True');
}

function find({ pods, external }: MetricsServer, path: string): Resource | null {
  const [, group = '', ...rest] = /^\/apis\/([^/]+)\/[^/]+\/?(.*)$/.exec(path) ?? [];
  const known = GROUPS[group];
  if (!known) return null;
  const apiVersion = `${group}/${known.version}`;
  if (rest[0] === '') {
    const kind = {
      name: known.resource,
      namespaced: true,
      kind: 'Metrics',
      verbs: ['get', 'list'],
    };
    return {
      kind: 'APIResourceList',
      apiVersion: 'v1',
      groupVersion: apiVersion,
      resources: [kind],
    };
  }
  const [, namespace, ...names] = rest[0]!.split('/');
  const name = names.at(-1)!;
  const timestamp = new Date().toISOString();
  const of = (metric: string) => Object.entries(pods[metric] ?? {});
  if (group === 'metrics.k8s.io') {
    const items = of('cpu').map(([pod, cores]) => ({
      metadata: { name: pod, namespace },
      timestamp,
      window: '15s',
      containers: [{ name: 'depthserve', usage: { cpu: milli(cores), memory: '1Mi' } }],
    }));
    return { kind: 'PodMetricsList', apiVersion, metadata: {}, items };
  }
  if (group === 'custom.metrics.k8s.io') {
    const items = of(name).map(([pod, value]) => ({
      describedObject: { kind: 'Pod', namespace, name: pod, apiVersion: 'v1' },
      metric: { name },
      timestamp,
      value: milli(value),
    }));
    return { kind: 'MetricValueList', apiVersion, metadata: {}, items };
  }
  const value = external[name];
  const items = value === undefined ? [] : [{ metricName: name, timestamp, value: milli(value) }];
  return { kind: 'ExternalMetricValueList', apiVersion, metadata: {}, items };
}

const milli = (value: number) => `${Math.round(value * 1000)}m`;
