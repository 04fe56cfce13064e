import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { performance } from 'node:perf_hooks';
import { describe, expect, test } from 'vitest';
import { EventLoopLag, readingSince } from '../src/event-loop-lag.ts';

/** A lag of which the histogram says that timers of 10 ms took so many ms, set by `takes`. */
function lagOf() {
  let ms = 10;
  let resets = 0;
  const histogram = { percentile: () => ms * 1e6, reset: () => void (resets += 1) };
  const lag = new EventLoopLag(histogram);
  return { lag, takes: (now: number) => (ms = now), resets: () => resets };
}

describe('what requests wait before they are read', () => {
  test('is what timers are late by, beyond their rounding', () => {
    const { lag, takes } = lagOf();
    expect(lag.ms(0)).toBe(0);
    takes(17);
    expect(lag.ms(600)).toBe(3);
    expect(lag.ms(1200)).toBe(4.5);
  });

  test('is nothing on an idle thread', () => {
    const { lag, takes } = lagOf();
    takes(10.8);
    for (let at = 0; at < 5000; at += 600) expect(lag.ms(at)).toBe(0);
  });

  test('is looked at again after half a second, and not for each request', () => {
    const { lag, takes, resets } = lagOf();
    lag.ms(0);
    takes(31);
    for (let at = 0; at < 500; at += 10) expect(lag.ms(at)).toBe(0);
    expect(resets()).toBe(1);
    expect(lag.ms(500)).toBe(10);
  });

  test('is forgotten when nobody has asked for a second', () => {
    const { lag, takes } = lagOf();
    lag.ms(0);
    takes(31);
    expect(lag.ms(600)).toBe(10);
    expect(lag.ms(2000)).toBe(0);
  });
});

test('a thread that computes 20 ms at a time is seen to be late', async () => {
  const lag = new EventLoopLag();
  const end = performance.now() + 1300;
  lag.ms(performance.now());
  let most = 0;
  while (performance.now() < end) {
    const until = performance.now() + 20;
    while (performance.now() < until);
    await sleep(0);
    most = Math.max(most, lag.ms(performance.now()));
  }
  expect(most).toBeGreaterThan(2);
});

test('what is read last in a turn of the event loop had come when its reading began', async () => {
  const began = readingSince();
  const until = performance.now() + 5;
  while (performance.now() < until);
  expect(readingSince()).toBe(began);
  await nextTurn();
  expect(readingSince()).toBeGreaterThanOrEqual(until);
});
