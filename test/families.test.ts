import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Manifest } from '../src/model/manifest.ts';
import { CAT, classify } from './http/client.ts';
import { startServer } from './server.ts';
import type { Server } from './server.ts';

/**
 * The server knows a network by its manifest alone. This one has MobileNetV2's shape: five flags,
 * 48 pixels, seven labels, and accuracies that nobody measured. Its weights are random.
 */
describe('a model of another family', () => {
  const folder = 'test/fixtures/five-flags';
  let server: Server;
  let manifest: Manifest;

  beforeAll(async () => {
    manifest = JSON.parse(await readFile(`${folder}/model.json`, 'utf8')) as Manifest;
    server = await startServer({ MODEL_DIR: folder });
  });
  afterAll(() => server.stop());

  it('is described with all its sub-networks, and no accuracy that is not known', async () => {
    const reply = await fetch(`${server.url}/model`);
    const { manifest: served } = (await reply.json()) as { manifest: Manifest };
    expect(served.subNetworks).toHaveLength(32);
    for (const { skip, top1, source } of served.subNetworks) {
      expect(skip).toMatch(/^[FT]{5}$/);
      expect({ top1, source }).toEqual({ top1: null, source: 'unmeasured' });
    }
  });

  it('classifies a photo into its own labels', async () => {
    const { status, body } = await classify(server.url, CAT, { 'x-latency-budget-ms': '20000' });
    expect(status).toBe(200);
    expect(body.model.name).toBe('five-flags');
    expect(body.subNetwork.skip).toMatch(/^[FT]{5}$/);
    for (const { label } of body.predictions) expect(manifest.labels).toContain(label);
  });
});
