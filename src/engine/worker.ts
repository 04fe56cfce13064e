/**
 * One engine worker: a thread with an onnxruntime session of its own, because `session.run()`
 * blocks its thread for as long as the inference takes.
 */
import { availableParallelism, constants, getPriority, setPriority } from 'node:os';
import { once } from 'node:events';
import { parentPort, workerData } from 'node:worker_threads';
import * as ort from 'onnxruntime-node';
import { processorWait, stopwatch } from './processor-wait.ts';
import type { FromWorker, ToWorker } from './protocol.ts';

const port = parentPort!;
const ended = workerData as Int32Array;
process.once('exit', () => {
  Atomics.store(ended, 0, 1);
  Atomics.notify(ended, 0);
});
const [first] = (await once(port, 'message')) as [ToWorker];
// Begun early, and not wanted: this ends the thread only.
if (first.type !== 'open') process.exit();
const { options } = first;
const waited = processorWait();
const FLAG = {
  T: new ort.Tensor('bool', Uint8Array.of(1), []),
  F: new ort.Tensor('bool', Uint8Array.of(0), []),
};

function post(message: FromWorker, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

function createSession(): Promise<ort.InferenceSession> {
  return ort.InferenceSession.create(options.modelFile, {
    // CUDA leaves the conditions of the `If` nodes to the CPU.
    executionProviders: options.provider === 'cuda' ? ['cuda', 'cpu'] : ['cpu'],
    intraOpNumThreads: options.intraOpThreads,
    // `all` includes the blocked layout that convolutions need on x86.
    graphOptimizationLevel: 'all',
    // Errors only: onnxruntime warns of initialisers that it moves, which is what we want.
    logSeverityLevel: 3,
    // Threads that spin while they wait halve the throughput of a contended machine.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
}

async function run(
  session: ort.InferenceSession,
  message: Extract<ToWorker, { type: 'run' }>,
): Promise<void> {
  const took = stopwatch(waited);
  const { height, width } = options;
  const pixels = new Uint8Array(message.pixels);
  const shape = [pixels.length / (height * width * 3), height, width, 3];
  const feeds: Record<string, ort.Tensor> = {
    [options.inputName]: new ort.Tensor('uint8', pixels, shape),
  };
  options.flags.forEach((name, stage) => {
    feeds[name] = message.skip[stage] === 'T' ? FLAG.T : FLAG.F;
  });
  const { logits } = await session.run(feeds, ['logits']);
  // The session owns the memory of its outputs; only a copy can be transferred.
  const copy = Float32Array.from(logits!.data as Float32Array);
  // One that is not finite makes the sum so; a probability of NaN is an answer to nobody.
  let sum = 0;
  for (let index = 0; index < copy.length; index++) sum += copy[index]!;
  if (!Number.isFinite(sum)) throw new Error('the logits are not finite');
  post({ type: 'result', logits: copy.buffer, ...took() }, [copy.buffer]);
}

/**
 * Closing the port lets the thread end by itself: terminating one that holds a session can abort
 * the process.
 */
function end(session: ort.InferenceSession): void {
  session
    .release()
    .catch(failed)
    .finally(() => port.close());
}

function failed(error: unknown): void {
  post({ type: 'failed', message: error instanceof Error ? error.message : String(error) });
}

/**
 * How far an engine is below the thread that speaks HTTP where both share one core, as `nice` counts.
 * At equal shares, that thread falls behind under overload: requests wait unread, where nobody
 * times them, and are answered too late (docs/cost-of-a-request.md).
 */
const BELOW_FRONT = 3;

function prioritise(): void {
  // On Linux priorities belong to threads and 0 is the caller; elsewhere it would be the process.
  if (process.platform !== 'linux') return;
  const { PRIORITY_LOW } = constants.priority;
  if (options.background) setPriority(0, PRIORITY_LOW);
  else if (availableParallelism() === 1) {
    setPriority(0, Math.min(getPriority(0) + BELOW_FRONT, PRIORITY_LOW));
  }
}

/** Told to end before it has opened its session: the process exits. */
let isUnwanted = false;
const unwanted = () => (isUnwanted = true);

try {
  prioritise();
  port.on('message', unwanted);
  const session = await createSession();
  port.off('message', unwanted);
  port.on('message', (message: ToWorker) => {
    if (message.type === 'run') {
      run(session, message).catch(failed);
      return;
    }
    end(session);
  });
  if (isUnwanted) end(session);
  else post({ type: 'ready' });
} catch (error) {
  failed(error);
  port.close();
}
