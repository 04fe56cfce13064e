import { beforeEach, expect, test, vi } from 'vitest';
import { InferenceEngine } from '../src/engine/engine.ts';
import { EngineError } from '../src/engine/protocol.ts';
import { EngineThread } from '../src/engine/thread.ts';

const OPTIONS = {
  modelFile: 'model.onnx',
  intraOpThreads: 1,
  inputName: 'image',
  height: 1,
  width: 1,
  flags: ['skip0'],
};
const released: number[] = [];

/** Threads of which one gets no session. */
function threadsBut(broken: number) {
  let started = 0;
  vi.spyOn(EngineThread, 'start').mockImplementation(async () => {
    const number = started++;
    if (number === broken) throw new Error('no memory');
    const release = async () => void released.push(number);
    return { alive: true, release } as unknown as EngineThread;
  });
}

beforeEach(() => {
  released.length = 0;
});

test('an engine of which one worker does not start releases the others', async () => {
  threadsBut(1);
  const start = InferenceEngine.start({ ...OPTIONS, provider: 'cpu', workers: 3 }, { failed() {} });
  await expect(start).rejects.toThrow('no memory');
  expect(released).toEqual([0, 2]);
});

test('CUDA that has memory for one session only is no CUDA', async () => {
  threadsBut(1);
  const start = InferenceEngine.start(
    { ...OPTIONS, provider: 'cuda', workers: 2 },
    { failed() {} },
  );
  await expect(start).rejects.toThrow('EXECUTION_PROVIDER=cuda, but CUDA did not load: no memory');
  expect(released).toEqual([0]);
});

test('an engine tells once of a worker that is lost while it runs nothing, and when it is back', async () => {
  const threads: { alive: boolean; lose: () => void }[] = [];
  vi.spyOn(EngineThread, 'start').mockImplementation(async (_options, _limitMs, onLost) => {
    const thread = {
      alive: true,
      run: async () => ({ logits: Float32Array.of(0, 1), workMs: 1, waitMs: 0 }),
      release: async () => {},
      lose() {
        thread.alive = false;
        onLost(new EngineError('its thread ended', 'crash'));
      },
    };
    threads.push(thread);
    return thread as unknown as EngineThread;
  });
  const engine = await InferenceEngine.start(
    { ...OPTIONS, provider: 'cpu', workers: 2 },
    { failed() {} },
  );
  engine.watch(1000);
  const lost: number[] = [];
  engine.onLost = (worker) => lost.push(worker);

  threads[1]!.lose();
  expect(lost).toEqual([1]);
  expect(engine.working).toBe(1);
  await engine.recovered(1);
  expect(engine.working).toBe(2);
  expect(threads).toHaveLength(3);
  expect(lost).toEqual([1]);
  await engine.release();
});
