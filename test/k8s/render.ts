import { parseAllDocuments } from 'yaml';
import { lacks, run } from '../tools.ts';

/** What every cluster may apply, and what needs an operator's CRDs. */
export const TARGETS = ['overlays/cpu', 'overlays/gpu', 'overlays/monitoring', 'kserve'] as const;
export type Target = (typeof TARGETS)[number];

// oxlint-disable-next-line typescript/no-explicit-any -- what it holds is what the tests look at
export type Resource = Record<string, any>;

/** The manifests as `kubectl apply -k` would send them. */
export function render(target: Target): string {
  const [program, args] = lacks('kubectl') ? ['kustomize', ['build']] : ['kubectl', ['kustomize']];
  const { code, output } = run(program, [...args, `k8s/${target}`]);
  if (code !== 0) throw new Error(output);
  return output;
}

export const parse = (manifests: string): readonly Resource[] =>
  parseAllDocuments(manifests).map((document) => document.toJS() as Resource);

export function only(resources: readonly Resource[], kind: string): Resource {
  const found = resources.filter((resource) => resource['kind'] === kind);
  if (found.length !== 1) throw new Error(`${found.length} resources of kind ${kind}`);
  return found[0]!;
}

/** kubeconform with the schemas of k8s/schemas and no other. */
export function validate(manifests: string): { code: number; output: string } {
  const location = 'k8s/schemas/{{.ResourceKind}}{{.KindSuffix}}.json';
  return run('kubeconform', ['-strict', '-schema-location', location, '-'], manifests);
}
