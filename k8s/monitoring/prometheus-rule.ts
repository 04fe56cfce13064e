import { stringify } from 'yaml';

/** The Prometheus operator's form of plain rule files. */
export function prometheusRule(files: readonly { groups: readonly object[] }[]): string {
  const resource = {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PrometheusRule',
    metadata: { name: 'depthserve' },
    spec: { groups: files.flatMap(({ groups }) => groups) },
  };
  return `# Made from k8s/monitoring/rules by \`npm run generate\`.\n${stringify(resource, { lineWidth: 0 })}`;
}
