/**
 * Loaded before the server (`node --import`), into its worker threads, too: makes inference fail
 * when an image asks for it by its first pixel. The server itself knows nothing of this.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { InferenceSession } from 'onnxruntime-node';

/** From then on no session can be created, when this file exists. */
const BROKEN_FOR_GOOD = process.env.FAULTS_FILE;

const FAULTS = {
  crash() {
    setImmediate(() => {
      throw new Error('injected crash');
    });
    return new Promise(() => {});
  },
  exit: () => process.exit(3),
  hang: () => new Promise(() => {}),
  slow(run) {
    // So that a test sees the thread end.
    process.once('exit', () => writeFileSync(`${BROKEN_FOR_GOOD}.ended`, ''));
    return new Promise((resolve) => setTimeout(resolve, 3000)).then(run);
  },
  stuck: () => spawnSync('sleep', ['600']),
  error: () => Promise.reject(new Error('injected error')),
  nan: async (run) => {
    const { logits } = await run();
    logits.data.fill(Number.NaN);
    return { logits };
  },
  beyond() {
    writeFileSync(BROKEN_FOR_GOOD, '');
    return FAULTS.crash();
  },
};
const NAMES = Object.keys(FAULTS);

if (!isMainThread) {
  const create = InferenceSession.create.bind(InferenceSession);
  InferenceSession.create = async (...options) => {
    if (BROKEN_FOR_GOOD && existsSync(BROKEN_FOR_GOOD)) throw new Error('injected: no session');
    const session = await create(...options);
    const run = session.run.bind(session);
    let sticky = null;
    session.run = (feeds, ...rest) => {
      const fault = sticky ?? asked(Object.values(feeds)[0]);
      if (!fault) return run(feeds, ...rest);
      if (fault.sticky) sticky = fault;
      return FAULTS[fault.name](() => run(feeds, ...rest));
    };
    return session;
  };
}

/** See colourOf() in faults.test.ts. */
function asked({ data, dims: [count] }) {
  for (let image = 0; image < count; image++) {
    const [red, green, blue] = data.subarray((image * data.length) / count);
    if (red === 250 && green <= 1 && NAMES[blue]) return { name: NAMES[blue], sticky: green === 1 };
  }
  return null;
}
