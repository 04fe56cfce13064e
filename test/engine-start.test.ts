import { beforeEach, expect, test, vi } from 'vitest';
import { InferenceEngine } from '../src/engine/engine.ts';
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
