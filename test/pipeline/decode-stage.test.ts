import { describe, expect, test, vi } from 'vitest';
import { DecodeStage } from '../../src/pipeline/decode-stage.ts';
import { VirtualClock } from '../../bench/simulator/clock.ts';

/** Decoders that take what each job expects; groups are noted by the names of their files. */
function stageOf({ workers = 1, wanted = (): number => 100 } = {}) {
  const clock = new VirtualClock();
  const groups: string[] = [];
  const expired: string[] = [];
  const times = new Map<string, number>();
  const stage = new DecodeStage<string, string>({
    clock,
    wanted,
    decoder: {
      workers,
      decode: (_worker, files) => {
        groups.push(files.join(''));
        const ms = files.reduce((sum, file) => sum + times.get(file)!, 0);
        return new Promise((resolve) =>
          clock.at(clock.now() + ms, () =>
            resolve(files.map((pixels) => ({ pixels, ms: times.get(pixels)! }))),
          ),
        );
      },
    },
    finished: () => {},
  });
  const enter = (file: string, ms: number, due: number, workMs = ms) => {
    times.set(file, ms);
    const job = { file, ms, workMs, due, expired: () => expired.push(file) };
    stage.enter([job]);
    return job;
  };
  return { clock, stage, groups, expired, enter };
}

describe('the decode stage', () => {
  test('the most urgent first', async () => {
    const { clock, groups, enter } = stageOf();
    enter('a', 10, 500);
    enter('b', 10, 500);
    enter('c', 10, 400);
    enter('d', 10, 300);
    await clock.run();
    expect(groups).toEqual(['d', 'c', 'a', 'b']);
  });

  test('no job is overtaken that would be late for it', async () => {
    const { clock, groups, enter } = stageOf();
    enter('a', 10, 20);
    enter('b', 10, 20);
    enter('c', 10, 19);
    await clock.run();
    expect(groups).toEqual(['a', 'b']);
  });

  test('what comes together is decoded together, shared among the decoders', async () => {
    const { clock, groups, enter } = stageOf({ workers: 2 });
    for (const file of 'abcdef') enter(file, 0.1, 100);
    await clock.run();
    expect(groups).toEqual(['abc', 'def']);
  });

  test('long jobs go alone', async () => {
    const { clock, groups, enter } = stageOf();
    for (const file of 'abc') enter(file, 3, 100);
    await clock.run();
    expect(groups).toEqual(['a', 'b', 'c']);
  });

  test('slow messages make no smaller groups', async () => {
    const { clock, groups, enter } = stageOf();
    for (const file of 'abc') enter(file, 5, 100, 0.5);
    await clock.run();
    expect(groups).toEqual(['abc']);
  });

  test('no more is decoded than is of use', async () => {
    let wanted = 2;
    const { clock, stage, groups, enter } = stageOf({ wanted: () => wanted });
    for (const file of 'abcd') enter(file, 1, 1000);
    clock.at(0.5, () => (wanted = 0));
    clock.at(20, () => {
      wanted = 1;
      stage.stepSoon();
      clock.at(20.5, () => (wanted = 0));
    });
    clock.at(30, () => expect(groups).toEqual(['ab', 'c']));
    clock.at(30, () => (wanted = 5));
    clock.at(31, () => stage.stepSoon());
    await clock.run();
    expect(groups).toEqual(['ab', 'c', 'd']);
  });

  test('what is late is told so at once, and not decoded', async () => {
    const { clock, groups, expired, enter } = stageOf({ wanted: () => 0 });
    enter('a', 1, 20);
    clock.at(19, () => expect(expired).toEqual([]));
    clock.at(21, () => expect(expired).toEqual(['a']));
    await clock.run();
    expect(groups).toEqual([]);
  });

  test('what becomes late while it is decoded is told so at once, and only once', async () => {
    const { clock, stage, groups, expired, enter } = stageOf({ workers: 2 });
    enter('a', 50, 20);
    enter('b', 50, 30);
    clock.at(19, () => expect(expired).toEqual([]));
    clock.at(21, () => expect(expired).toEqual(['a']));
    clock.at(31, () => expect(expired).toEqual(['a', 'b']));
    // It is decoded to its end all the same: a decoder can't be stopped.
    clock.at(40, () => expect(stage.length).toBe(2));
    clock.at(41, () => enter('c', 1, 100));
    await clock.run();
    expect(expired).toEqual(['a', 'b']);
    expect(groups).toEqual(['a', 'b', 'c']);
    expect(stage.length).toBe(0);
  });

  test('one timer watches all jobs, and stays when they are done in time', async () => {
    const { clock, enter } = stageOf();
    const at = vi.spyOn(clock, 'at');
    const watches = () => at.mock.calls.filter(([time]) => time > 50).length;
    for (let i = 0; i < 5; i++) clock.at(10 * i, () => void enter(`${i}`, 1, 100 + i));
    at.mockClear();
    clock.at(49, () => expect(watches()).toBe(1));
    await clock.run();
    // It looked once in vain.
    expect(watches()).toBe(1);
    expect(clock.now()).toBe(100);
  });

  test('the wait is that of the place that an image would get', () => {
    const { clock, stage, enter } = stageOf({ wanted: () => 1 });
    expect(stage.waitMs(10, 20)).toBe(0);
    enter('a', 10, 500);
    enter('b', 10, 100);
    expect(stage.waitMs(10, 600)).toBe(20);
    expect(stage.waitMs(10, 50)).toBe(0);
    expect(clock.now()).toBe(0);
  });

  test('who goes away leaves its place', async () => {
    const { clock, stage, groups, enter } = stageOf();
    const job = enter('a', 10, 500);
    enter('b', 10, 500);
    stage.remove([job]);
    await clock.run();
    expect(groups).toEqual(['b']);
  });
});
