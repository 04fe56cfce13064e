import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };

test.each([
  ['training/pyproject.toml', `version = "${version}"`],
  ['training/adaptive_depth/__init__.py', `__version__ = "${version}"`],
  ['k8s/overlays/cpu/kustomization.yaml', `newTag: ${version}-cpu`],
  ['k8s/overlays/gpu/kustomization.yaml', `newTag: ${version}-cuda`],
  ['k8s/kserve/kustomization.yaml', `newTag: ${version}-cpu`],
  ['docker/compose.yaml', `image: depthserve:${version}-cpu`],
  ['docs/openapi.json', `"version": "${version}"`],
  ['docs/operations.md', `-t depthserve:${version}-cpu`],
  ['CHANGELOG.md', `## ${version}`],
])('%s names the version of package.json', (file, text) => {
  expect(readFileSync(file, 'utf8')).toContain(text);
});
