import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { VirtualClock } from '../bench/simulator/clock.ts';
import type { Profile } from '../bench/simulator/tables.ts';
import { Deployment } from '../src/deployment.ts';
import type { ServingEngine } from '../src/deployment.ts';
import { toServeError } from '../src/http/problem.ts';
import type { Confidence } from '../src/model/manifest.ts';
import type { Tier } from '../src/scheduler/policy.ts';
import type { Shadow } from '../src/telemetry/shadow.ts';
import { fakeParts, jpegOf } from './fake-deployment.ts';
import type { FakeOptions } from './fake-deployment.ts';
import { read } from './monitoring/metrics.ts';

/** The slowest sub-network is not the most accurate one. */
const PROFILE: Profile = {
  name: 'test-model',
  tiers: [
    { skip: 'T', accuracy: 0.7, macs: 1 },
    { skip: 'F', accuracy: 0.8, macs: 2 },
    { skip: 'X', accuracy: 0.75, macs: 3 },
  ],
  latency: { T: { 1: 10, 8: 12 }, F: { 1: 20, 8: 24 }, X: { 1: 30, 8: 36 } },
  engineWorkers: 1,
  maxBatch: 8,
};

function deploy(options: FakeOptions = {}) {
  const clock = new VirtualClock();
  const parts = fakeParts(PROFILE, clock, options);
  return { clock, parts, deployment: new Deployment(parts) };
}

const PATIENT = { arrivedAt: 0, budgetMs: 1000, minAccuracy: 0 };
/** Takes 2 ms to decode. */
const PHOTO = jpegOf(200_000);

describe('a deployment', () => {
  test('answers with its version and the accuracy of its most accurate sub-network', async () => {
    const { clock, deployment } = deploy();
    const answers = deployment.classify([PHOTO], PATIENT);
    await clock.run();
    expect(await answers).toMatchObject([
      { tier: { skip: 'F' }, best: { skip: 'F' }, manifest: { version: '1' }, decodeMs: 2 },
    ]);
  });

  test('says which of several images cannot be decoded, and answers none', async () => {
    const { clock, deployment } = deploy();
    const failure = deployment
      .classify([PHOTO, Buffer.from('no image'), PHOTO], PATIENT)
      .catch((error: unknown) => error);
    await clock.run();
    expect(await failure).toMatchObject({
      code: 'not-an-image',
      detail: 'Image 2 of 3: No image.',
      extra: { image: 1 },
    });
    expect(deployment.status().waiting).toBe(0);
  });

  test('rehearses without counting: it learns how slow the machine is before anybody asks', async () => {
    const { clock, parts, deployment } = deploy({ slowdown: () => 2 });
    const before = deployment.status().tiers[0]!.budgetMs;
    const rehearsed = deployment.rehearse(PHOTO);
    await clock.run();
    await rehearsed;
    expect(deployment.status().tiers[0]!.budgetMs).toBeGreaterThan(1.5 * before);
    expect(await read(parts.metrics, 'depthserve_batch_size_count{tier="F"}')).toBeUndefined();
    expect(deployment.pipeline.scheduler.idle).toBe(true);
  });

  test('is released after the requests that came in, engine before file', async () => {
    const released: string[] = [];
    const { clock, deployment } = deploy({ released });
    const done = deployment.hold();
    const answers = deployment.classify([PHOTO], PATIENT);
    const ended = deployment.release();
    await clock.run();
    await expect(answers).resolves.toHaveLength(1);
    // The answer may still be on its way to the client.
    expect(released).toEqual([]);
    done();
    done();
    await ended;
    expect(released).toEqual(['engine', 'decoders', 'model']);
  });

  test('runs nothing on a worker that its engine lost until that is back', async () => {
    const clock = new VirtualClock();
    const parts = fakeParts(PROFILE, clock);
    const engine: ServingEngine = {
      ...parts.engine,
      recovered: () => new Promise((resolve) => clock.at(50, resolve)),
    };
    const deployment = new Deployment({ ...parts, engine });
    engine.onLost!(0);
    const answers = deployment.classify([PHOTO], PATIENT);
    await clock.run();
    // Decoded after 2 ms.
    expect(await answers).toMatchObject([{ queueMs: 48 }]);
  });

  test('offers the shadow each answer that nobody pinned, without a promise for each', async () => {
    const clock = new VirtualClock();
    const offered: Tier[] = [];
    const offer = (_pixels: Uint8Array, { tier }: { tier: Tier }) => void offered.push(tier);
    const started = Promise.resolve({ offer } as unknown as Shadow);
    const then = vi.spyOn(started, 'then');
    const deployment = new Deployment({
      ...fakeParts(PROFILE, clock),
      startShadow: () => started,
    });
    await started;
    const asked = then.mock.calls.length;
    const answers = [{}, {}, { skip: 'T' }].map((pin) =>
      deployment.classify([PHOTO], { ...PATIENT, ...pin }),
    );
    await clock.run();
    await Promise.all(answers);
    expect(offered.map(({ skip }) => skip)).toEqual(['F', 'F']);
    expect(then).toHaveBeenCalledTimes(asked);
  });

  test('counts what was decoded and run', async () => {
    const { clock, parts, deployment } = deploy();
    const answers = deployment.classify([PHOTO, PHOTO], PATIENT);
    await clock.run();
    await answers;
    const value = (series: string) => read(parts.metrics, series);
    expect(await value('depthserve_batch_size_sum{tier="F"}')).toBe(2);
    expect(await value('depthserve_macs_total')).toBe(4);
    expect(await value('depthserve_prediction_ratio_count{of="decode",tier="none"}')).toBe(2);
  });
});

describe('a budget that was used up while the request came in', () => {
  /** What is told of a request that arrives at 0 and is here at `at`. */
  async function told(at: number, budgetMs: number, needs = {}): Promise<unknown> {
    const { clock, deployment } = deploy();
    let outcome: Promise<unknown> | undefined;
    clock.at(at, () => {
      const answers = deployment.classify([PHOTO], { ...PATIENT, budgetMs, ...needs });
      outcome = answers.then(
        () => 'answered',
        (error: unknown) => toServeError(error),
      );
    });
    await clock.run();
    return outcome;
  }

  test('is not called too small: the upload took too long', async () => {
    expect(await told(600, 300)).toMatchObject({ code: 'deadline-passed', status: 504 });
  });

  test('nor where little was left of it: the answer says how much', async () => {
    expect(await told(250, 300)).toBe('answered');
    expect(await told(295, 300)).toMatchObject({
      code: 'budget-too-small',
      explanation: expect.stringMatching(/^The upload left 5\.0 ms of the budget.*faster\.$/),
    });
  });

  test('is called too small for the sub-network that was asked for, whatever others take', async () => {
    for (const needs of [{ minAccuracy: 0.75 }, { skip: 'F' }]) {
      expect(await told(2, 15, needs)).toMatchObject({
        code: 'budget-too-small',
        explanation: expect.stringMatching(/the same budget fails again/),
      });
    }
  });

  test('is called too small where it would have been at any time', async () => {
    for (const at of [0, 4, 600]) {
      expect(await told(at, 5)).toMatchObject({
        code: 'budget-too-small',
        explanation: expect.stringMatching(/the same budget fails again/),
      });
    }
  });
});

describe('the status of a deployment', () => {
  test('names the tiers in use, and the budget that is enough for each on an idle service', () => {
    const { deployment } = deploy();
    expect(deployment.status().tiers).toEqual([
      { skip: 'T', accuracy: 0.7, macs: 1, budgetMs: 10 },
      { skip: 'F', accuracy: 0.8, macs: 2, budgetMs: 20 },
    ]);
  });

  test('predicts each tier in use at each measured batch size', () => {
    const predictions = deploy().deployment.status().predictions();
    expect(predictions.map(({ tier, batch, ms }) => [tier.skip, batch, ms])).toEqual([
      ['T', 1, 10],
      ['T', 8, 12],
      ['F', 1, 20],
      ['F', 8, 24],
    ]);
  });

  test('tells how much slower than measured batches are now', async () => {
    const { clock, deployment } = deploy({ slowdown: () => 2 });
    const ask = (at: number) =>
      clock.at(at, () => {
        void deployment.classify([PHOTO], { ...PATIENT, arrivedAt: at });
      });
    for (let request = 0; request < 5; request++) ask(100 * request);
    await clock.run();
    const { latency, decodeMs } = deployment.status();
    expect(latency.slowdown).toBe(2);
    expect(latency.table['F']![1]).toBe(20);
    expect(latency.present['T']![1]).toBe(20);
    expect(decodeMs).toBe(2);
  });

  test('counts images that wait, decoded or not', async () => {
    const { clock, deployment } = deploy();
    const answers = deployment.classify(
      Array.from({ length: 20 }, () => PHOTO),
      PATIENT,
    );
    expect(deployment.status().waiting).toBe(20);
    await clock.run();
    await answers;
    expect(deployment.status().waiting).toBe(0);
  });
});

describe('SECOND_LOOKS=off', () => {
  interface Arrival {
    readonly gap: number;
    readonly budget: number;
    /** 0 to 255: how sure an answer to the image is. */
    readonly sure: number;
    readonly minConfidence: number;
  }
  /** An answer to an image of a first byte of 0 is of a confidence of a half. */
  const bins = [
    { below: 0.7, share: 0.3, first: 0.4, second: 0.7 },
    { below: 1, share: 0.7, first: 0.85, second: 0.86 },
  ];
  const calibration = { temperatures: { T: 1, F: 1, X: 1 } };
  const WITH = {
    ...calibration,
    secondLooks: [{ first: 'T', second: 'F', bins }],
  } as unknown as Confidence;
  const WITHOUT = { ...calibration, secondLooks: [] } as unknown as Confidence;

  /** What runs when, and what becomes of each request. */
  async function decisions(requests: readonly Arrival[], options: FakeOptions) {
    const clock = new VirtualClock();
    const ran: string[] = [];
    const dispatched = ({ skip }: Tier, size: number) =>
      void ran.push(`${skip} x ${size} at ${clock.now()}`);
    const deployment = new Deployment(fakeParts(PROFILE, clock, { ...options, dispatched }));
    const outcomes: unknown[] = requests.map(() => null);
    let at = 0;
    requests.forEach(({ gap, budget, sure, minConfidence }, index) => {
      const arrivedAt = (at += gap);
      const wish = { arrivedAt, budgetMs: budget, minAccuracy: 0, minConfidence };
      clock.at(arrivedAt, () => {
        deployment.classifyPixels([Uint8Array.of(sure, 0, 0)], wish).then(
          ([answer]) =>
            (outcomes[index] = [answer!.looks.map(({ tier }) => tier.skip), clock.now()]),
          (error: unknown) => (outcomes[index] = [String(error), clock.now()]),
        );
      });
    });
    await clock.run();
    return { ran, outcomes };
  }
  const off = { confidence: WITH, looksAgain: false };
  const stripped = { confidence: WITHOUT };
  const on = { confidence: WITH };

  test('decides as with a manifest without tables of second looks, whatever comes', async () => {
    const arrival = fc.record({
      gap: fc.double({ min: 0, max: 4, noNaN: true }),
      budget: fc.double({ min: 5, max: 150, noNaN: true }),
      sure: fc.integer({ min: 0, max: 255 }),
      minConfidence: fc.constantFrom(0, 0.7),
    });
    const alike = fc.asyncProperty(fc.array(arrival, { maxLength: 60 }), async (requests) => {
      expect(await decisions(requests, off)).toEqual(await decisions(requests, stripped));
    });
    await fc.assert(alike, { numRuns: 60 });
  });

  test('decides otherwise than with second looks', async () => {
    // More than the deepest sub-network can answer in full batches, of 3 ms for an image.
    const requests = Array.from({ length: 60 }, (_, index) => ({
      gap: 1.8,
      budget: 60,
      sure: index % 4 === 0 ? 0 : 255,
      minConfidence: 0.7,
    }));
    const without = await decisions(requests, off);
    const looks = await decisions(requests, on);
    expect(looks.ran).not.toEqual(without.ran);
    const firstThenDeep = expect.arrayContaining([[['T', 'F'], expect.any(Number)]]);
    expect(looks.outcomes).toEqual(firstThenDeep);
    expect(without.outcomes).not.toEqual(firstThenDeep);
  });
});
