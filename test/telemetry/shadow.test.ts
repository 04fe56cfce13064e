import { describe, expect, it, vi } from 'vitest';
import { EngineError } from '../../src/engine/protocol.ts';
import { EngineThread } from '../../src/engine/thread.ts';
import { Shadow } from '../../src/telemetry/shadow.ts';
import type { Tier } from '../../src/scheduler/policy.ts';

const superNet: Tier = { skip: 'FF', accuracy: 0.9, macs: 1000 };
const middle: Tier = { skip: 'FT', accuracy: 0.85, macs: 700 };
const baseNet: Tier = { skip: 'TT', accuracy: 0.8, macs: 400 };
/** An image that shows class `shown`. */
const image = (shown: number) => Uint8Array.of(shown);
/** Logits whose largest is that of class `predicted`. */
const logits = (predicted: number) => new Float32Array(10).fill(1, predicted, predicted + 1);

/** A shadow whose super-net reads the class off the image. */
function setUp(idle: () => boolean = () => true) {
  const asked: number[] = [];
  const checked: [skip: string, agrees: boolean][] = [];
  const shadow = new Shadow({
    superNet,
    idle,
    ask: async (pixels) => {
      asked.push(pixels[0]!);
      return pixels[0]!;
    },
    onChecked: (tier, agrees) => checked.push([tier.skip, agrees]),
    now: () => 0,
  });
  return { shadow, asked, checked };
}

describe('the shadow', () => {
  it('tells whether the super-net agrees', async () => {
    const { shadow, checked } = setUp();
    shadow.offer(image(3), { tier: baseNet, output: logits(3) });
    await shadow.check();
    shadow.offer(image(3), { tier: baseNet, output: logits(5) });
    await shadow.check();
    expect(checked).toEqual([
      ['TT', true],
      ['TT', false],
    ]);
  });

  it('runs nothing while an engine is busy or a request waits', async () => {
    const { shadow, asked } = setUp(() => false);
    shadow.offer(image(3), { tier: baseNet, output: logits(3) });
    await shadow.check();
    expect(asked).toEqual([]);
  });

  it('never asks the super-net about itself', async () => {
    const { shadow, asked } = setUp();
    shadow.offer(image(3), { tier: superNet, output: logits(3) });
    await shadow.check();
    expect(asked).toEqual([]);
  });

  it('keeps the latest answer of each tier, and checks it once', async () => {
    const { shadow, asked } = setUp();
    shadow.offer(image(1), { tier: baseNet, output: logits(1) });
    shadow.offer(image(2), { tier: baseNet, output: logits(2) });
    await shadow.check();
    await shadow.check();
    expect(asked).toEqual([2]);
  });

  it('prefers the tier that was checked least', async () => {
    const { shadow, checked } = setUp();
    for (let round = 0; round < 3; round++) {
      shadow.offer(image(1), { tier: baseNet, output: logits(1) });
      await shadow.check();
    }
    shadow.offer(image(1), { tier: baseNet, output: logits(1) });
    shadow.offer(image(1), { tier: middle, output: logits(1) });
    await shadow.check();
    expect(checked.at(-1)).toEqual(['FT', true]);
  });

  it('checks one image at a time', async () => {
    const { shadow, asked } = setUp();
    shadow.offer(image(1), { tier: baseNet, output: logits(1) });
    shadow.offer(image(2), { tier: middle, output: logits(2) });
    await Promise.all([shadow.check(), shadow.check()]);
    expect(asked).toHaveLength(1);
  });
});

describe('a shadow that can check no more', () => {
  const ENGINE = {
    modelFile: 'model.onnx',
    provider: 'cpu',
    workers: 2,
    intraOpThreads: 1,
    inputName: 'image',
    height: 1,
    width: 1,
    flags: ['skip0', 'skip1'],
  } as const;

  /** A shadow on an engine whose only run fails; what it said of that. */
  async function failing({ isThreadLost }: { isThreadLost: boolean }) {
    const error = new EngineError('the logits are no numbers');
    vi.spyOn(EngineThread, 'start').mockImplementation(async (_options, _limitMs, onLost) => {
      const run = async () => {
        if (isThreadLost) onLost(error);
        throw error;
      };
      return { alive: !isThreadLost, run, release: async () => {} } as unknown as EngineThread;
    });
    const told: EngineError[] = [];
    const shadow = await Shadow.start(ENGINE, [baseNet, superNet], {
      perMinute: 60_000,
      idle: () => true,
      onChecked: () => {},
      onLost: (reason) => told.push(reason),
    });
    shadow.offer(image(3), { tier: baseNet, output: logits(3) });
    await expect.poll(() => told).toEqual([error]);
    await shadow.close();
    return told;
  }

  it('says so when a run failed, though its thread lives on', async () => {
    expect(await failing({ isThreadLost: false })).toHaveLength(1);
  });

  it('says so once when its thread is lost', async () => {
    expect(await failing({ isThreadLost: true })).toHaveLength(1);
  });
});
