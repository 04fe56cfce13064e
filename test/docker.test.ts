import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { readConfig } from '../src/config.ts';
import { lacks, run } from './tools.ts';

const dockerfile = readFileSync('Dockerfile', 'utf8');
const stages = dockerfile.split(/^(?=FROM )/m).slice(1);
const final = stages.filter((stage) => stage.includes('ENTRYPOINT'));

describe('the Dockerfile', () => {
  it.skipIf(lacks('hadolint'))('has no lint', () => {
    expect(run('hadolint', ['-'], dockerfile)).toEqual({ code: 0, output: '' });
    // The linter does look: a base without a version is found.
    const loose = dockerfile.replace(/^FROM docker.io\/library\/debian:\S+/m, 'FROM debian');
    expect(run('hadolint', ['-'], loose).output).toContain('DL3006');
  });

  it('has a target for the processor and one for CUDA', () => {
    expect(final.map((stage) => / AS (\w+)/.exec(stage)![1])).toEqual(['cpu', 'cuda']);
  });

  it.each(final)('runs as a numbered user, without a shell, with a health check: %#', (stage) => {
    // A number, because runAsNonRoot cannot judge names.
    expect(stage).toMatch(/^USER 10001:10001$/m);
    expect(stage).toMatch(/^ENTRYPOINT \["node", "dist\/main.js"\]$/m);
    expect(stage).toMatch(/^HEALTHCHECK /m);
    expect(stage).not.toMatch(/^RUN /m);
  });

  it('pins every base to a version', () => {
    const bases = [...dockerfile.matchAll(/^FROM (docker\.io\S+)/gm)].map(([, base]) => base);
    for (const base of bases) expect(base).toMatch(/:\d+\.\d+(\.\d+)?-/);
  });

  it.each(final)('holds every folder that the server reads at run time: %#', (stage) => {
    const read = new Set<string>();
    const files = readdirSync('src', { recursive: true, encoding: 'utf8' });
    for (const file of files.filter((name) => name.endsWith('.ts'))) {
      const text = readFileSync(join('src', file), 'utf8');
      for (const [, path] of text.matchAll(/new URL\('(\.\.\/[^']+)'/g)) {
        read.add(join('src', dirname(file), path!).split('/')[0]!);
      }
    }
    read.delete('src');
    expect(read).toContain('models');
    for (const name of read) expect(stage).toMatch(new RegExp(`^COPY .*\\b${name}\\b`, 'm'));
  });

  it('copies what exists', () => {
    const sources = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, list]) =>
      list!.split(' '),
    );
    expect(sources.filter((source) => !existsSync(source))).toEqual([]);
    const sent = readFileSync('.dockerignore', 'utf8').split('\n');
    const within = (source: string) => (line: string) =>
      `${source}/`.startsWith(`${line.slice(1)}/`);
    expect(sources.filter((source) => !sent.some(within(source)))).toEqual([]);
  });
});

describe('docker/compose.yaml', () => {
  const { services } = parse(readFileSync('docker/compose.yaml', 'utf8')) as {
    services: Record<string, { volumes?: string[]; stop_grace_period?: string }>;
  };

  it('mounts what exists', () => {
    const mounted = Object.values(services)
      .flatMap(({ volumes }) => volumes ?? [])
      .map((volume) => volume.split(':')[0]!)
      .filter((source) => source.startsWith('.'));
    expect(mounted.length).toBeGreaterThan(0);
    expect(mounted.filter((source) => !existsSync(join('docker', source)))).toEqual([]);
  });

  it('lets the server drain before it is killed', () => {
    const seconds = Number.parseInt(services['depthserve']!.stop_grace_period!, 10);
    expect(seconds * 1000).toBeGreaterThan(readConfig({}).DRAIN_TIMEOUT_MS);
  });

  it('lets Prometheus find the service, and Grafana find Prometheus', () => {
    const prometheus = readFileSync('docker/prometheus.yaml', 'utf8');
    const grafana = readFileSync('docker/grafana/datasources/prometheus.yaml', 'utf8');
    expect(Object.keys(services)).toEqual(expect.arrayContaining(['depthserve', 'prometheus']));
    expect(prometheus).toContain('targets: [depthserve:8080]');
    expect(grafana).toContain('url: http://prometheus:9090');
  });
});
