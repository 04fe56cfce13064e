import { readFile } from 'node:fs/promises';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Manifest } from '../src/model/manifest.ts';
import { CAT, classify } from './http/client.ts';
import { CIFAR10, ModelFolder, manifestIn } from './model/folder.ts';
import { createDecoder } from '../src/preprocess/decode.ts';
import { startServer } from './server.ts';
import type { Server } from './server.ts';

/**
 * The server knows a network by its manifest alone. This one has MobileNetV2's shape: five flags,
 * 48 pixels, seven labels, and accuracies that nobody measured. Its weights are random. An exporter
 * of November 2026 wrote it: later ones write MobileNetV2 as another graph, and benchmarks compare
 * the cost of this one.
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
    for (const network of served.subNetworks) {
      expect(network.skip).toMatch(/^[FT]{5}$/);
      expect(network).toMatchObject({ top1: null, source: 'unmeasured' });
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

it('photos are prepared as the manifest says', async () => {
  const folder = await ModelFolder.create();
  const { input } = await manifestIn(CIFAR10);
  const rule = { resize: 'stretch', centre: 0.8, interpolation: 'bicubic' } as const;
  await folder.put(CIFAR10, { version: '2.0.0', input: { ...input, ...rule } });
  const server = await startServer({ MODEL_DIR: folder.path });
  try {
    const wide = await sharp(CAT).resize(300, 100, { fit: 'fill' }).png().toBuffer();
    const { width, height } = input;
    const prepare = async (how: object) => {
      const pixels = new Uint8Array(width * height * 3);
      await createDecoder({ width, height, ...how, maxPixels: 1e6 })(wide, pixels);
      return pixels;
    };
    /** Logits of the super-net for a picture, or for pixels that need no preparation. */
    const logits = async (data: Uint8Array) => {
      const isPixels = data.length === width * height * 3;
      const [datatype, shape] = isPixels
        ? (['UINT8', [1, height, width, 3]] as const)
        : (['BYTES', [1]] as const);
      const contents = isPixels ? Array.from(data) : [Buffer.from(data).toString('base64')];
      const reply = await fetch(`${server.url}/v2/models/cifar10-small-resnet/infer`, {
        method: 'POST',
        body: JSON.stringify({
          parameters: { skip: 'FFFF', latency_budget_ms: 20_000 },
          inputs: [{ name: 'image', datatype, shape, data: contents }],
          outputs: [{ name: 'logits' }],
        }),
      });
      const body = (await reply.json()) as { outputs: { data: number[] }[] };
      return body.outputs[0]!.data;
    };
    const answer = await logits(wide);
    expect(answer).toEqual(await logits(await prepare(rule)));
    for (const other of [{ ...rule, resize: 'cover' }, { ...rule, centre: 1 }, {}]) {
      expect(answer).not.toEqual(await logits(await prepare(other)));
    }
  } finally {
    await server.stop();
    await folder.remove();
  }
});
