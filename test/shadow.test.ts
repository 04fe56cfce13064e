import { describe, expect, it } from 'vitest';
import { Shadow } from '../src/shadow.ts';
import type { Tier } from '../src/scheduler/policy.ts';

const superNet: Tier = { skip: 'FF', accuracy: 0.9, macs: 1000 };
const middle: Tier = { skip: 'FT', accuracy: 0.85, macs: 700 };
const baseNet: Tier = { skip: 'TT', accuracy: 0.8, macs: 400 };
const image = (value: number) => Uint8Array.of(value);

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
    shadow.offer({ tier: baseNet, pixels: image(3), predicted: 3 });
    await shadow.check();
    shadow.offer({ tier: baseNet, pixels: image(3), predicted: 5 });
    await shadow.check();
    expect(checked).toEqual([
      ['TT', true],
      ['TT', false],
    ]);
  });

  it('runs nothing while an engine is busy or a request waits', async () => {
    const { shadow, asked } = setUp(() => false);
    shadow.offer({ tier: baseNet, pixels: image(3), predicted: 3 });
    await shadow.check();
    expect(asked).toEqual([]);
  });

  it('never asks the super-net about itself', async () => {
    const { shadow, asked } = setUp();
    shadow.offer({ tier: superNet, pixels: image(3), predicted: 3 });
    await shadow.check();
    expect(asked).toEqual([]);
  });

  it('keeps the latest answer of each tier, and checks it once', async () => {
    const { shadow, asked } = setUp();
    shadow.offer({ tier: baseNet, pixels: image(1), predicted: 1 });
    shadow.offer({ tier: baseNet, pixels: image(2), predicted: 2 });
    await shadow.check();
    await shadow.check();
    expect(asked).toEqual([2]);
  });

  it('prefers the tier that was checked least', async () => {
    const { shadow, checked } = setUp();
    for (let round = 0; round < 3; round++) {
      shadow.offer({ tier: baseNet, pixels: image(1), predicted: 1 });
      await shadow.check();
    }
    shadow.offer({ tier: baseNet, pixels: image(1), predicted: 1 });
    shadow.offer({ tier: middle, pixels: image(1), predicted: 1 });
    await shadow.check();
    expect(checked.at(-1)).toEqual(['FT', true]);
  });

  it('checks one image at a time', async () => {
    const { shadow, asked } = setUp();
    shadow.offer({ tier: baseNet, pixels: image(1), predicted: 1 });
    shadow.offer({ tier: middle, pixels: image(2), predicted: 2 });
    await Promise.all([shadow.check(), shadow.check()]);
    expect(asked).toHaveLength(1);
  });
});
