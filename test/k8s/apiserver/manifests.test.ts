import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { TARGETS, only, parse } from '../render.ts';
import type { Resource } from '../render.ts';
import { startCluster } from './cluster.ts';
import type { Cluster } from './cluster.ts';

const CRDS = 'test/k8s/apiserver/bin/crds';
const CRD_LIST = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const ACCOUNT = '/api/v1/namespaces/depthserve/serviceaccounts/default';
const PATIENCE = 300_000;

/** `npm run test:kubernetes`: builds Kubernetes first, so it is not part of `npm test`. */
describe.runIf(process.env['KUBERNETES'])('on a real API server', () => {
  let cluster: Cluster;

  beforeAll(async () => {
    cluster = await startCluster();
    cluster.startControllers();
    for (const file of readdirSync(CRDS)) {
      // Too large for the annotation of a client-side apply.
      cluster.kubectl(['apply', '--server-side', '-f', `${CRDS}/${file}`]);
    }
    await vi.waitFor(async () => {
      const { items } = await cluster.call('GET', CRD_LIST);
      expect(items.map(isEstablished)).toEqual(items.map(() => true));
    }, PATIENCE);
    cluster.kubectl(['apply', '-f', 'k8s/base/namespace.yaml']);
    // No pod is admitted before a controller has made this account.
    await vi.waitFor(async () => {
      expect(await cluster.call('GET', ACCOUNT)).toHaveProperty('metadata.uid');
    }, PATIENCE);
  }, PATIENCE);
  afterAll(() => cluster.stop());

  describe.each(TARGETS)('%s', (target) => {
    const apply = ['apply', '--warnings-as-errors', '--validate=strict', '-k', `k8s/${target}`];
    const resources = () => parse(cluster.kubectl(['kustomize', `k8s/${target}`]));

    test('is accepted without a warning by a dry run of the server', () => {
      const lines = cluster
        .kubectl([...apply, '--dry-run=server'])
        .trim()
        .split('\n');
      expect(lines).toEqual(resources().map(() => expect.stringMatching(/\(server dry run\)$/)));
    });

    test('is applied, and the server holds what the manifests say', () => {
      cluster.kubectl(apply);
      expect(cluster.kubectl(['diff', '-k', `k8s/${target}`])).toBe('');
    });
  });

  test('a field that no schema knows is refused', () => {
    const deployment = cluster.kubectl(['kustomize', 'k8s/overlays/cpu']);
    const spoilt = deployment.replace('periodSeconds: 2', 'periodSecond: 2');
    expect(() =>
      cluster.kubectl(['apply', '--dry-run=server', '--validate=strict', '-f', '-'], spoilt),
    ).toThrow('unknown field "spec.template.spec.containers[0].');
  });

  describe('restricted Pod Security', () => {
    /** Shows the server a pod with this spec. @throws what the server has against it. */
    function create(spec: Resource) {
      const metadata = { name: 'pod', namespace: 'depthserve' };
      const pod = JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata, spec });
      return cluster.kubectl(['create', '--dry-run=server', '-f', '-'], pod);
    }

    test('refuses a privileged pod', () => {
      const containers = [{ name: 'c', image: 'c', securityContext: { privileged: true } }];
      expect(() => create({ containers })).toThrow(
        'violates PodSecurity "restricted:latest": privileged',
      );
    });

    test.each(['overlays/cpu', 'overlays/gpu'] as const)(
      'admits the pods of %s, by their security context',
      (target) => {
        const { spec } = only(parse(cluster.kubectl(['kustomize', `k8s/${target}`])), 'Deployment')[
          'spec'
        ].template;
        expect(create(spec)).toContain('created');
        const { securityContext: _, ...container } = spec.containers[0];
        expect(() => create({ ...spec, containers: [container] })).toThrow(
          'violates PodSecurity "restricted:latest"',
        );
      },
    );

    test("admits a pod with the container of KServe's runtime", () => {
      const runtime = only(parse(cluster.kubectl(['kustomize', 'k8s/kserve'])), 'ServingRuntime');
      expect(create({ containers: runtime['spec'].containers })).toContain('created');
    });

    test("lets the Deployment's pods be made", async () => {
      await vi.waitFor(async () => {
        const { items } = await cluster.call('GET', '/api/v1/namespaces/depthserve/pods');
        expect(items).not.toEqual([]);
      }, PATIENCE);
    });
  });
});

const isEstablished = ({ status }: Resource) =>
  (status?.conditions ?? []).some(
    ({ type, status }: Resource) => type === 'Established' && status === 'True',
  );
