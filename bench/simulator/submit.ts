import type { Ready, Requirements, Served, Settle } from '../../src/scheduler/contract.ts';
import type { Scheduler } from '../../src/scheduler/scheduler.ts';

/**
 * Has a scheduler answer inputs of one request that need no decoding: all together, or none.
 *
 * @param signal takes them out of the queue; what runs already can't be stopped.
 * @throws {RefusedError | ExpiredError} and what the signal was aborted with
 */
export async function submitAll<Input, Output>(
  scheduler: Scheduler<Input, Output>,
  inputs: readonly Input[],
  needs: Requirements,
  signal?: AbortSignal,
): Promise<readonly Served<Output>[]> {
  signal?.throwIfAborted();
  const places = scheduler.reserve(inputs.length, needs);
  signal?.addEventListener('abort', () => scheduler.withdraw(places, signal.reason), {
    once: true,
  });
  const answers: Promise<Served<Output>>[] = [];
  const ready = places.map((place, index): Ready<Input, Output> => {
    let settle: Settle<Output>;
    answers.push(new Promise((resolve, reject) => (settle = { resolve, reject })));
    return { place, input: inputs[index]!, settle: settle! };
  });
  scheduler.enqueue(ready);
  return Promise.all(answers);
}

/** One input, as `submitAll`. */
export async function submit<Input, Output>(
  scheduler: Scheduler<Input, Output>,
  input: Input,
  needs: Requirements,
  signal?: AbortSignal,
): Promise<Served<Output>> {
  const [served] = await submitAll(scheduler, [input], needs, signal);
  return served!;
}
