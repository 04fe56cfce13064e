import { describe, expect, it } from 'vitest';
import {
  curlOf,
  enough,
  formatMacs,
  formatMs,
  kept,
  stopOf,
  toStep,
  trackOf,
} from '../../src/page/figures.js';
import { Pace, capacityOf } from '../../src/page/pace.js';

describe('figures of the page', () => {
  it.each([
    [0.04, '0 ms'],
    [8.04, '8 ms'],
    [12.34, '12.3 ms'],
    [99.94, '99.9 ms'],
    [134.5, '135 ms'],
  ])('%f ms is written %s', (ms, text) => {
    expect(formatMs(ms)).toBe(text);
  });

  it.each([
    [139_300_000, '139.3 M'],
    [4_100_000_000, '4.10 G'],
  ])('%i MACs are written %s', (macs, text) => {
    expect(formatMacs(macs)).toBe(text);
  });

  it.each([
    [{ requestedMs: 12, actualMs: 11.98, met: true }, 'within the budget of 12 ms'],
    [{ requestedMs: 12, actualMs: 12.3, met: false }, '0.3 ms over the budget of 12 ms'],
    [{ requestedMs: 12, actualMs: 12.004, met: false }, '0.004 ms over the budget of 12 ms'],
    [{ requestedMs: 12, actualMs: 212, met: false }, '200 ms over the budget of 12 ms'],
  ])('an answer kept its budget or did not: %j', (budget, text) => {
    expect(kept(budget)).toBe(text);
  });

  it('offers a budget with room above the smallest that would have worked', () => {
    expect([enough(4), enough(8.2), enough(100)]).toEqual([6, 10.5, 125]);
  });

  it.each([
    ['small photos on a quick machine', [3, 4.5, 7]],
    ['large photos', [40, 62, 80]],
    ['a slow machine', [400, 700, 1100]],
  ])('the track holds every stop, and no two positions show the same number: %s', (_, budgets) => {
    const tiers = budgets.map((budgetMs) => ({ budgetMs }));
    const { from, to, step } = trackOf(tiers);
    const stops = tiers.map(stopOf);
    expect(from).toBeLessThan(stops[0]!);
    expect(from).toBeGreaterThan(stops[0]! / 2);
    expect(to).toBeCloseTo(2 * stops.at(-1)!, 0);
    // A stop is a budget that is answered, not the time of inference alone.
    for (const [index, stop] of stops.entries()) expect(stop).toBeGreaterThan(budgets[index]!);
    const positions = Array.from({ length: Math.round((to - from) / step) + 1 }, (_, index) =>
      formatMs(toStep(from + index * step, step)),
    );
    expect(new Set(positions).size).toBe(positions.length);
  });

  it('names the command that asks the same, safe to paste', () => {
    expect(curlOf('http://localhost:8080', 'cat.jpg', 12.5, 0)).toBe(
      "curl http://localhost:8080/classify -H 'X-Latency-Budget-Ms: 12.5' -F image=@cat.jpg",
    );
    expect(curlOf('http://localhost:8080', "Anne's photo.jpg", 12, 0.9)).toBe(
      "curl http://localhost:8080/classify -H 'X-Latency-Budget-Ms: 12' -H 'X-Min-Accuracy: 0.9' " +
        "-F 'image=@Anne'\\''s photo.jpg'",
    );
  });
});

describe('the pace of a burst', () => {
  it.each([
    ['quick', 400, 1500],
    ['slow', 4, 7],
    ['hardly any depth to give', 50, 55],
  ])('passes what the super-net can do within five steps, refused or not: %s', (_, deep, quick) => {
    const pace = new Pace(deep, quick);
    expect(pace.rate).toBeLessThan(deep);
    let steps = 0;
    while (pace.rate <= deep && steps < 100) {
      pace.step(pace.rate, 0);
      steps += 1;
    }
    expect(steps).toBeLessThanOrEqual(5);
  });

  it('stays where depth has given way and few are refused', () => {
    // The service answers 300 images a second at most; its super-net 100.
    const pace = new Pace(100, 300);
    let [answered, refused] = [0, 0];
    for (let step = 0; step < 40; step++) {
      const most = Math.min(pace.rate, 300);
      if (step >= 10) {
        answered += most;
        refused += pace.rate - most;
      }
      pace.step(most, pace.rate - most);
    }
    expect(answered / 30).toBeGreaterThan(200);
    expect(refused / (answered + refused)).toBeLessThan(0.05);
  });

  it('counts with the batches that suit a sub-network best', () => {
    expect(capacityOf({ 1: 10, 4: 20, 8: 80 }, 2)).toBe(400);
  });
});
