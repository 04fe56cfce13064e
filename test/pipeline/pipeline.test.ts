import { describe, expect, test } from 'vitest';
import { Cancellation } from '../../src/pipeline/cancellation.ts';
import { DecodeTimes } from '../../src/pipeline/decode-times.ts';
import { DecodeError } from '../../src/pipeline/decode-stage.ts';
import { Pipeline } from '../../src/pipeline/pipeline.ts';
import type { ImageAnswer } from '../../src/pipeline/pipeline.ts';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import { MeasuredLatency } from '../../src/scheduler/latency.ts';
import { ExpiredError, RefusedError } from '../../src/scheduler/scheduler.ts';
import { VirtualClock } from '../../bench/simulator/clock.ts';

const TIERS = [
  { skip: 'T', accuracy: 0.7, macs: 1 },
  { skip: 'F', accuracy: 0.8, macs: 2 },
];
const HEADER = { format: 'jpeg', pixels: 1024 };

/**
 * One engine of 10 ms (T) or 20 ms (F) for any batch, whose results take `coldMs` to come back, and
 * one decoder of `decodeMs` an image. Requests may have waited `unreadMs` before they were read.
 */
function pipelineOf({
  decodeMs = 1,
  maxBatch = 8,
  coldMs = 0,
  unreadMs = 0,
  engineFails = false,
} = {}) {
  const clock = new VirtualClock();
  const log: string[] = [];
  let inVain = 0;
  const table = { T: { 1: 10, 8: 10.5 }, F: { 1: 20, 8: 20.5 } };
  const truth = new MeasuredLatency(table);
  const latency = new MeasuredLatency(table);
  const pipeline = new Pipeline<string, string, string>({
    policy: depthserve,
    tiers: () => TIERS,
    latency,
    clock,
    maxBatch,
    unreadMs: () => unreadMs,
    decodeTimes: new DecodeTimes(),
    decoder: {
      workers: 1,
      decode: (_worker, files) => {
        log.push(`decode ${files.join('')}`);
        const results = files.map((file) =>
          file === '!' ? { error: new Error('broken') } : { pixels: file, ms: decodeMs },
        );
        return new Promise((resolve) =>
          clock.at(clock.now() + files.length * decodeMs, () => resolve(results)),
        );
      },
    },
    engine: {
      workers: 1,
      run: (_worker, tier, inputs) => {
        log.push(`${tier.skip} ${inputs.join('')}`);
        const workMs = truth.predict(tier, inputs.length);
        return new Promise((resolve, reject) =>
          clock.at(clock.now() + workMs + coldMs, () => {
            if (engineFails) reject(new Error('engine died'));
            else resolve({ outputs: inputs, workMs });
          }),
        );
      },
    },
    events: { decodedInVain: (images) => (inVain += images) },
  });
  const ask = (files: string, budgetMs: number, cancellation?: Cancellation) => {
    const request = { arrivedAt: clock.now(), budgetMs, minAccuracy: 0, cancellation };
    const images = files.split('').map((file) => ({ file, header: HEADER }));
    const answers = pipeline.classify(images, request);
    answers.catch(() => {});
    return answers;
  };
  const outputs = (answers: readonly ImageAnswer<string>[]) => answers.map((one) => one.output);
  return { clock, pipeline, latency, log, ask, outputs, inVain: () => inVain };
}

describe('the life of a request', () => {
  test('a budget that a refusal names is enough, also for one that comes after a rest', async () => {
    const { clock, pipeline, ask } = pipelineOf({ coldMs: 6 });
    const named: number[] = [];
    const toldLate: Promise<unknown>[] = [];
    const refuse = () => {
      const request = { arrivedAt: clock.now(), budgetMs: 1, minAccuracy: 0, format: 'jpeg' };
      named.push(pipeline.preview(request)!.smallestBudgetMs);
      // Where the body tells the budget, or comes with the head, there is no preview.
      const answers = [ask('a', 1), pipeline.classifyPixels(['a'], request)];
      toldLate.push(...answers.map((one) => one.catch((error: unknown) => error)));
    };
    clock.at(9000, refuse);
    for (let i = 1; i <= 20; i++) clock.at(i * 10_000, () => void ask('a', 1000));
    clock.at(210_000, refuse);
    await clock.run();
    // 1 ms to decode, 10 to run, 6 to come back: unknown at first, forgotten by the plan in a rest.
    expect(named[0]).toBeLessThan(17);
    expect(named[1]).toBeGreaterThan(16.9);
    expect(named[1]).toBeLessThan(20);
    const late = (await Promise.all(toldLate)).map(
      (error) => (error as RefusedError).refusal.smallestBudgetMs,
    );
    expect(late.slice(2)).toEqual([named[1], named[1]! - 1]);
  });

  test('what it may have waited unread comes off its budget, and is in the one that is named', async () => {
    const { clock, pipeline, ask } = pipelineOf({ unreadMs: 5 });
    const { ask: askAtOnce, clock: other } = pipelineOf();
    const preview = { arrivedAt: 0, budgetMs: 14, minAccuracy: 0 };
    expect(pipeline.preview(preview)!.smallestBudgetMs).toBeGreaterThanOrEqual(15);
    // Another thread read it, and knows better.
    expect(pipeline.preview({ ...preview, unreadMs: 0 })).toBeNull();
    const [answers, atOnce] = [ask('a', 20), askAtOnce('a', 20)];
    await Promise.all([clock.run(), other.run()]);
    // It is predicted to take as long as one that was read at once, and took no more.
    const [answer] = await answers;
    expect(answer!.tier.skip).toBe('T');
    expect(answer!.predictedMs).toBe((await atOnce)[0]!.predictedMs);
    expect(answer!.stages.finishedAt).toBe(11);
  });

  test('decode, run, answer', async () => {
    const { clock, log, ask } = pipelineOf();
    const answers = ask('a', 100);
    await clock.run();
    const [answer] = await answers;
    expect(log).toEqual(['decode a', 'F a']);
    expect(answer).toMatchObject({ output: 'a', decodeMs: 1, queueMs: 0, inferenceMs: 20 });
  });

  test('requests that come together share a decoder message and a batch', async () => {
    const { clock, log, ask, outputs } = pipelineOf();
    const all = [ask('a', 200), ask('b', 200), ask('c', 200)];
    await clock.run();
    expect(log).toEqual(['decode abc', 'F abc']);
    expect((await Promise.all(all)).flatMap(outputs)).toEqual(['a', 'b', 'c']);
  });

  test('images are decoded when their turn is near, not when they come', async () => {
    const { clock, log, ask } = pipelineOf({ maxBatch: 1 });
    for (const file of 'abcdefgh') void ask(file, 1000);
    clock.at(15, () => {
      // One runs, four are ready, and one will be when the next is started.
      const decoded = log.filter((line) => line.startsWith('decode'));
      expect(decoded.join('').replaceAll('decode ', '')).toBe('abcdef');
    });
    await clock.run();
    expect(log.filter((line) => /^[TF] /.test(line))).toHaveLength(8);
  });

  test('what was decoded in vain is counted, whenever its request is given up', async () => {
    const { clock, log, ask, inVain } = pipelineOf({ maxBatch: 1 });
    const client = new Cancellation();
    void ask('ab', 500, client);
    void ask('c', 500);
    // One of the two runs, the other waits for it.
    clock.at(5, () => client.cancel(new Error('gone')));
    await clock.run();
    expect(log).toEqual(['decode abc', 'T a', 'T c']);
    expect(inVain()).toBe(2);
  });

  test('what cannot be decoded gives up the whole request, and says which image it was', async () => {
    const { clock, pipeline, log, ask, inVain } = pipelineOf();
    const answers = ask('a!b', 100);
    await clock.run();
    const error = await answers.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(DecodeError);
    expect(error).toMatchObject({ index: 1, count: 3 });
    // The two beside it.
    expect(inVain()).toBe(2);
    expect(log.filter((line) => /^[TF]/.test(line))).toEqual([]);
    expect(pipeline.waiting).toBe(0);
  });

  test('a client that goes away is not decoded for', async () => {
    const { clock, pipeline, log, ask, inVain } = pipelineOf({ decodeMs: 10 });
    const client = new Cancellation();
    void ask('a', 500);
    const gone = ask('bcdefg', 200, client);
    clock.at(5, () => client.cancel(new Error('gone')));
    await clock.run();
    await expect(gone).rejects.toThrow('gone');
    expect(log).toEqual(['decode bcde', 'decode a', 'F a']);
    expect(inVain()).toBe(4);
    expect(pipeline.waiting).toBe(0);
  });

  test('a request whose time is over before its turn comes expires undecoded', async () => {
    const { clock, log, ask } = pipelineOf({ decodeMs: 30 });
    const first = ask('a', 100);
    let late: Promise<unknown> = Promise.resolve();
    // Nothing is known of decoding yet, so it is let in; the decoder is busy until it is too late.
    clock.at(1, () => {
      late = ask('b', 35);
    });
    await clock.run();
    await expect(first).resolves.toHaveLength(1);
    await expect(late).rejects.toBeInstanceOf(ExpiredError);
    expect(log).toEqual(['decode a', 'F a']);
  });

  test('a request that a batch of the typical time answers, but a slow one does not, is not given up', async () => {
    const { clock, latency, log, ask } = pipelineOf();
    for (let i = 0; i < 20; i++) latency.observe(TIERS[0]!, 1, i % 4 === 0 ? 15 : 10);
    expect([latency.typical(TIERS[0]!, 1), latency.predict(TIERS[0]!, 1)]).toEqual([10, 15]);
    const answers = ask('a', 14);
    await clock.run();
    expect(await answers).toHaveLength(1);
    expect(log).toEqual(['decode a', 'T a']);
  });

  test('a request whose time is over while it is decoded is told so then, and gives its place up', async () => {
    const { clock, pipeline, log, ask, inVain } = pipelineOf({ decodeMs: 100 });
    // Nothing is known of decoding yet, so it is let in.
    let toldAt = NaN;
    const told = ask('a', 50).catch((error: unknown) => {
      toldAt = clock.now();
      return error;
    });
    await clock.run();
    expect(await told).toBeInstanceOf(ExpiredError);
    // The quickest sub-network would take the last 10 ms.
    expect(toldAt).toBe(40);
    expect([log, inVain(), pipeline.waiting]).toEqual([['decode a'], 1, 0]);
  });

  test('a budget that decoding would use up is refused undecoded, with one that is enough', async () => {
    const { clock, pipeline, log, ask } = pipelineOf({ decodeMs: 30 });
    void ask('a', 1000);
    await clock.run();
    const refused = await ask('b', 35).catch((reason: unknown) => reason);
    expect(refused).toBeInstanceOf(RefusedError);
    expect(log).not.toContain('decode b');
    const { smallestBudgetMs } = (refused as RefusedError).refusal;
    const answers = ask('c', smallestBudgetMs);
    await clock.run();
    await expect(answers).resolves.toHaveLength(1);
    expect(pipeline.waiting).toBe(0);
  });

  test('images of one request that expire together are one failure', async () => {
    const { clock, pipeline, log, ask } = pipelineOf({ decodeMs: 2, coldMs: 30 });
    // The engine is occupied when they are decoded, and back when it is too late for them.
    const first = ask('a', 1000);
    const told: { error: unknown; at: number }[] = [];
    clock.at(3, () => {
      ask('bcd', 32).catch((error: unknown) => told.push({ error, at: clock.now() }));
    });
    await clock.run();
    await first;
    // The quickest sub-network would take the last 10 ms.
    expect(told).toEqual([{ error: expect.any(ExpiredError), at: expect.closeTo(25, 1) }]);
    expect(log.filter((line) => /^[TF] /.test(line))).toEqual(['F a']);
    expect(pipeline.waiting).toBe(0);
  });

  test('pixels need no decoder', async () => {
    const { clock, pipeline, log } = pipelineOf();
    const request = { arrivedAt: 0, budgetMs: 100, minAccuracy: 0 };
    const answers = pipeline.classifyPixels(['a', 'b'], request);
    await clock.run();
    expect((await answers).map(({ decodeMs }) => decodeMs)).toEqual([0, 0]);
    expect(log).toEqual(['F ab']);
  });
});

describe('an image that was decoded in vain', () => {
  test('is none that is answered', async () => {
    const { clock, ask, inVain } = pipelineOf();
    const answers = ask('abc', 200);
    await clock.run();
    await answers;
    expect(inVain()).toBe(0);
  });

  test('expired in the queue', async () => {
    const { clock, log, ask, inVain } = pipelineOf({ coldMs: 30 });
    // The engine is occupied when they are decoded, and back when it is too late for them.
    const first = ask('a', 1000);
    let late: Promise<unknown> = Promise.resolve();
    clock.at(3, () => {
      late = ask('bcd', 33);
    });
    await clock.run();
    await expect(first).resolves.toHaveLength(1);
    await expect(late).rejects.toBeInstanceOf(ExpiredError);
    expect(log).toEqual(['decode a', 'F a', 'decode bcd']);
    expect(inVain()).toBe(3);
  });

  test('lost its place in the queue to another', async () => {
    const { clock, log, ask, inVain } = pipelineOf({ coldMs: 30, maxBatch: 1 });
    const first = ask('a', 1000);
    let others: Promise<unknown>[] = [];
    // Both would be in time if the engine came back when it is expected; then only one can be.
    clock.at(3, () => {
      others = [ask('b', 65), ask('c', 65)];
    });
    await clock.run();
    await expect(first).resolves.toHaveLength(1);
    const results = await Promise.allSettled(others);
    expect(results.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []))).toEqual([
      expect.any(RefusedError),
    ]);
    expect(log.slice(0, 3)).toEqual(['decode a', 'F a', 'decode bc']);
    expect(inVain()).toBe(1);
  });

  test('was in a batch that failed', async () => {
    const { clock, ask, inVain } = pipelineOf({ engineFails: true });
    const failed = ask('ab', 500);
    await clock.run();
    await expect(failed).rejects.toThrow('engine died');
    expect(inVain()).toBe(2);
  });

  test('is none that came as pixels', async () => {
    const { clock, pipeline, inVain } = pipelineOf();
    const cancellation = new Cancellation();
    const request = { arrivedAt: 0, budgetMs: 100, minAccuracy: 0, cancellation };
    const gone = pipeline.classifyPixels(['a'], request);
    gone.catch(() => {});
    clock.at(5, () => cancellation.cancel(new Error('gone')));
    await clock.run();
    await expect(gone).rejects.toThrow('gone');
    expect(inVain()).toBe(0);
  });
});
