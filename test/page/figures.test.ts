import { describe, expect, it } from 'vitest';
import { curlOf, enough, formatMacs, formatMs, kept } from '../../src/page/figures.js';
import { Pace, capacityOf } from '../../src/page/pace.js';
import { Track, stopsOf } from '../../src/page/track.js';

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

describe.each([
  ['small photos on a quick machine', [3, 4.5, 7]],
  ['large photos', [40, 62, 80]],
  ['a slow machine', [400, 700, 1100]],
  ['much that every depth needs alike', [34.7, 36, 38.5, 41, 46]],
  ['hardly any difference', [3, 3.1, 3.2]],
  ['learned a moment ago, out of order', [30, 28, 45]],
  ['one sub-network', [12]],
])('the track of budgets: %s', (_, budgets) => {
  const tiers = budgets.map((budgetMs) => ({ budgetMs }));
  const stops = stopsOf(tiers);
  const track = new Track(tiers);
  const positions = Array.from({ length: track.last + 1 }, (_, position) => position);

  it('reaches from below the first stop to twice the last', () => {
    expect(track.from).toBeLessThan(stops[0]!);
    expect(track.from).toBeGreaterThan(stops[0]! / 2);
    expect(track.to).toBeCloseTo(2 * stops.at(-1)!, 0);
  });

  it('has stops that are enough, each larger than the one before', () => {
    for (const [index, stop] of stops.entries()) {
      expect(stop).toBeGreaterThan(budgets[index]!);
      if (index > 0) expect(stop).toBeGreaterThan(stops[index - 1]!);
    }
  });

  it('shows another number at each position, larger to the right, and finds each again', () => {
    const shown = positions.map((position) => formatMs(track.at(position)));
    expect(new Set(shown).size).toBe(positions.length);
    for (const position of positions) expect(track.positionOf(track.at(position))).toBe(position);
    expect(track.positionOf(0)).toBe(0);
    expect(track.positionOf(track.to * 9)).toBe(track.last);
  });
});

it('a stop is not enough for the next sub-network, where that takes a tenth longer', () => {
  const budgets = [40, 44, 49, 54];
  const stops = stopsOf(budgets.map((budgetMs) => ({ budgetMs })));
  // Of which reading and answering take 1.5 ms.
  for (const [index, next] of budgets.slice(1).entries()) {
    expect(stops[index]! - 1.5).toBeLessThan(next);
  }
});

it('every sub-network has as much of the track as any other, however close their times', () => {
  const tiers = [34.7, 36, 38.5, 41, 92].map((budgetMs) => ({ budgetMs }));
  const track = new Track(tiers);
  const shares = stopsOf(tiers).map((stop) => track.positionOf(stop) / track.last);
  expect(shares[0]).toBeLessThan(0.1);
  const widths = shares.slice(1).map((share, index) => share - shares[index]!);
  for (const width of widths) expect(width).toBeCloseTo(0.18, 1);
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
