import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Answer } from '../../src/http/schemas.ts';
import { CIFAR10, ModelFolder, manifestIn } from '../model/folder.ts';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { CAT, classify, scrape } from './client.ts';
import type { Problem } from './client.ts';

describe('how sure an answer is', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer({});
  });
  afterAll(() => server.stop());

  const patient = { 'x-latency-budget-ms': '20000' };

  it('comes with it, and with every sub-network that looked', async () => {
    const { body } = await classify(server.url, CAT, patient);
    expect(body.confidence).toBeCloseTo(body.predictions[0]!.probability, 5);
    const last = body.looks.at(-1)!;
    expect(last.subNetwork).toBe(body.subNetwork.skip);
    expect(last.confidence).toBe(body.confidence);
    expect(last.atMs).toBeGreaterThan(0);
    expect(last.atMs).toBeLessThanOrEqual(body.timing.totalMs);
  });

  it('is the softmax at the temperature of the manifest', async () => {
    const { body } = await classify(server.url, CAT, patient);
    const model = (await (await fetch(`${server.url}/model`)).json()) as {
      manifest: { confidence: { temperatures: Record<string, number> } };
    };
    const temperature = model.manifest.confidence.temperatures[body.subNetwork.skip]!;
    const v2 = await fetch(`${server.url}/v2/models/cifar10-small-resnet/infer`, {
      method: 'POST',
      body: JSON.stringify({
        parameters: { skip: body.subNetwork.skip, latency_budget_ms: 20_000, min_confidence: 0.5 },
        inputs: [
          {
            name: 'image',
            shape: [1],
            datatype: 'BYTES',
            data: [Buffer.from(CAT).toString('base64')],
          },
        ],
        outputs: [{ name: 'logits' }, { name: 'probabilities' }],
      }),
    });
    const answer = (await v2.json()) as {
      parameters: { looks: string; confidence: string };
      outputs: { data: number[] }[];
    };
    const logits = answer.outputs[0]!.data;
    const most = Math.max(...logits);
    const sum = logits.reduce((all, logit) => all + Math.exp((logit - most) / temperature), 0);
    expect(1 / sum).toBeCloseTo(body.confidence, 3);
    expect(Math.max(...answer.outputs[1]!.data)).toBeCloseTo(body.confidence, 3);
    expect(answer.parameters.looks).toBe(body.subNetwork.skip);
    expect(Number(answer.parameters.confidence)).toBeCloseTo(body.confidence, 3);
  });

  it.each(['-0.1', '1.1', 'sure', ''])('X-Min-Confidence %j: 400', async (value) => {
    const reply = await classify<Problem>(server.url, CAT, { 'x-min-confidence': value });
    expect(reply.status).toBe(400);
    expect(reply.body.code).toBe('bad-min-confidence');
    expect(reply.body.detail).toContain('from 0 to 1');
  });

  it('is taken as a wish, not as a condition', async () => {
    const reply = await classify(server.url, CAT, { ...patient, 'x-min-confidence': '1' });
    expect(reply.status).toBe(200);
  });

  it('is counted: looks by tier, and confidence delivered', async () => {
    const metrics = await scrape(server.url);
    expect(metrics).toMatch(/^depthserve_looks_total\{.*look="first".*\} [1-9]/m);
    expect(metrics).toMatch(/^depthserve_confidence_delivered_total\S* [0-9.]+/m);
  });
});

describe('a second look', () => {
  const DEEP = 'FFFF';
  const SHALLOW = 'TTTT';
  let folder: ModelFolder;
  let server: Server;

  /**
   * The deep sub-network is as little above the shallow one as numbers can tell, and the rest far
   * below: the shallow one looks first, however fast the machine is and whatever else it does. It
   * is sure of nothing, and the deep one of everything.
   */
  beforeAll(async () => {
    const { subNetworks, confidence } = await manifestIn(CIFAR10);
    const accuracies: Record<string, number> = { [SHALLOW]: 0.9, [DEEP]: 0.9 + Number.EPSILON / 2 };
    const bins = [
      { below: 0.01, share: 0.01, first: 0, second: 1 },
      { below: 1, share: 0.99, first: 1, second: 1 },
    ];
    folder = await ModelFolder.create();
    await folder.put(CIFAR10, {
      subNetworks: subNetworks.map((one) => ({ ...one, top1: accuracies[one.skip] ?? 0.5 })),
      confidence: {
        ...confidence,
        temperatures: { ...confidence!.temperatures, [SHALLOW]: 100, [DEEP]: 0.01 },
        secondLooks: [{ first: SHALLOW, second: DEEP, bins }],
      },
    });
  });
  afterEach(() => server?.stop());
  afterAll(() => folder.remove());

  const start = async (env: NodeJS.ProcessEnv = {}) => {
    server = await startServer({ MODEL_DIR: folder.path, ...env });
  };
  const PATIENT = { 'x-latency-budget-ms': '60000' };
  const DOUBTING = { ...PATIENT, 'x-min-confidence': '0.5' };
  const looksOf = ({ looks }: Answer) => looks.map(({ subNetwork }) => subNetwork);

  /** The most probable label by a sub-network that is named. */
  async function labelBy(skip: string, image: Buffer): Promise<string> {
    const answer = await askV2(image, { skip });
    const [logits] = (answer as unknown as { outputs: { data: number[] }[] }).outputs;
    const { labels } = await manifestIn(CIFAR10);
    return labels[logits!.data.indexOf(Math.max(...logits!.data))]!;
  }

  async function askV2(image: Buffer, parameters: object) {
    const data = [image.toString('base64')];
    const reply = await fetch(`${server.url}/v2/models/cifar10-small-resnet/infer`, {
      method: 'POST',
      body: JSON.stringify({
        parameters: { latency_budget_ms: 60_000, ...parameters },
        inputs: [{ name: 'image', shape: [1], datatype: 'BYTES', data }],
        outputs: [{ name: 'logits' }],
      }),
    });
    expect(reply.status).toBe(200);
    return (await reply.json()) as { parameters: { looks: string; sub_network: string } };
  }

  /** A picture that the two sub-networks take for different things, after so many tries. */
  async function disputed(): Promise<{ image: Buffer; label: string; tries: number }> {
    for (let tries = 1; tries <= 36; tries++) {
      const image = await sharp(CAT)
        .rotate(tries * 10, { background: 'grey' })
        .jpeg()
        .toBuffer();
      const label = await labelBy(DEEP, image);
      if ((await labelBy(SHALLOW, image)) !== label) return { image, label, tries };
    }
    throw new Error('the sub-networks agree about all');
  }

  /** Looks by sub-network and number, and answers that the second one changed. */
  async function counted(): Promise<Record<string, number>> {
    const lines = (await scrape(server.url)).matchAll(
      /^depthserve_looks_(?:total\{tier="(\w+)",look="(\w+)"\}|changed_total) (\d+)$/gm,
    );
    return Object.fromEntries(
      [...lines].map(([, tier, look, count]) => [tier ? `${look} ${tier}` : 'changed', +count!]),
    );
  }

  it('answers in place of the first where that is less sure than was asked for', async () => {
    await start();
    const { image, label, tries } = await disputed();
    const { status, headers, body } = await classify(server.url, image, DOUBTING);
    expect(status).toBe(200);
    expect(looksOf(body)).toEqual([SHALLOW, DEEP]);
    const [first, second] = body.looks;
    expect(first!.confidence).toBeLessThan(0.5);
    expect(second!.confidence).toBeGreaterThan(first!.confidence);
    expect(second!.atMs).toBeGreaterThan(first!.atMs);
    expect(body.subNetwork.skip).toBe(DEEP);
    expect(headers.get('x-sub-network')).toBe(DEEP);
    expect(body.confidence).toBe(second!.confidence);
    expect(body.predictions[0]!.label).toBe(label);

    await expect.poll(counted).toEqual({
      [`first ${SHALLOW}`]: tries + 1,
      [`first ${DEEP}`]: tries,
      [`second ${DEEP}`]: 1,
      changed: 1,
    });
    // One that agrees with the first changes nothing.
    const agreed = await classify(server.url, CAT, DOUBTING);
    expect(looksOf(agreed.body)).toEqual([SHALLOW, DEEP]);
    expect(await labelBy(SHALLOW, CAT)).toBe(await labelBy(DEEP, CAT));
    await expect.poll(async () => (await counted())[`second ${DEEP}`]).toBe(2);
    expect((await counted())['changed']).toBe(1);

    const v2 = await askV2(image, { min_confidence: 0.5 });
    expect(v2.parameters).toMatchObject({ looks: `${SHALLOW}>${DEEP}`, sub_network: DEEP });
    // Nobody asked how sure it is, and nothing is to be gained.
    expect(looksOf((await classify(server.url, image, PATIENT)).body)).toEqual([SHALLOW]);
  });

  it('is not taken with SECOND_LOOKS=off, whatever is asked for', async () => {
    await start({ SECOND_LOOKS: 'off' });
    const { status, body } = await classify(server.url, CAT, DOUBTING);
    expect(status).toBe(200);
    expect(body.looks).toHaveLength(1);
    expect(looksOf(body)).toEqual([body.subNetwork.skip]);
    // The first of them has been counted.
    await expect.poll(async () => Object.keys(await counted()).join()).toContain('first');
    expect(Object.keys(await counted()).join()).not.toContain('second');
  });
});
