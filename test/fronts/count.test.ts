import { availableParallelism } from 'node:os';
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { countFronts } from '../../src/fronts/count.ts';

const threads = (env: NodeJS.ProcessEnv, node: string, platform: NodeJS.Platform = 'linux') =>
  countFronts(readConfig(env), node, platform);

it('one for every four cores, at most four, speaks HTTP unless FRONTS says otherwise', () => {
  expect(readConfig({}).FRONTS).toBe(
    Math.min(4, Math.max(1, Math.floor(availableParallelism() / 4))),
  );
});

describe('how many threads speak HTTP', () => {
  it('beside the main one: none, where one is enough', () => {
    expect(threads({ FRONTS: '1' }, '24.0.0')).toEqual({ threads: 0, reason: null });
  });

  it.each(['22.12.0', '23.1.0', '24.0.0'])('as many as FRONTS says, on Node %s', (node) => {
    expect(threads({ FRONTS: '3' }, node)).toEqual({ threads: 3, reason: null });
  });

  it.each([
    ['20.19.0', 'linux'],
    ['22.11.0', 'linux'],
    ['24.0.0', 'darwin'],
    ['24.0.0', 'win32'],
  ] as const)('one, where a port cannot be shared: Node %s on %s', (node, platform) => {
    const { threads: count, reason } = threads({ FRONTS: '3' }, node, platform);
    expect(count).toBe(1);
    expect(reason).toContain('share a port');
  });

  it.each(['TOKENS_FILE', 'OTEL_EXPORTER_OTLP_ENDPOINT'])('the main one, with %s', (name) => {
    const { threads: count, reason } = threads({ FRONTS: '3', [name]: 'x' }, '24.0.0');
    expect(count).toBe(0);
    expect(reason).toContain(name);
  });
});
