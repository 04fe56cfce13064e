// First: what is loaded later is compiled as it says.
import '../v8-tuning.ts';
import { availableParallelism } from 'node:os';

/** As `serve` of serve.ts, whose libraries load while the first engine thread loads its own. */
export async function serveEarly(env: NodeJS.ProcessEnv): Promise<void> {
  // On one core a thread would only wait; and it would not take turns (take-turns.ts).
  if (availableParallelism() === 1) return (await import('./serve.ts')).serve(env);
  const { beginThread, endBegunThread } = await import('../engine/thread.ts');
  beginThread();
  try {
    await (await import('./serve.ts')).serve(env);
  } catch (error) {
    await endBegunThread();
    throw error;
  }
}
