import closeWithGrace from 'close-with-grace';
import { readConfig } from '../config.ts';
import type { Config } from '../config.ts';
import { EngineError } from '../engine/protocol.ts';
import { endBegunThread, endThreads, stuckThreads } from '../engine/thread.ts';
import { openLog } from '../log.ts';
import { openModel } from '../model/manifest.ts';
import type { Service } from '../service.ts';
import { packageVersion, progress } from './command.ts';
import { Server } from './server.ts';
import { takeTurns } from './take-turns.ts';

/** Longest that an exit waits for engine threads that load or run a batch, ms. */
const MAX_END_MS = 3000;

/**
 * `depthserve serve`: the server as a process, with its log, its signals and its end. Returns when
 * it is ready; a signal ends it.
 *
 * @param env the settings.
 */
export async function serve(env: NodeJS.ProcessEnv): Promise<void> {
  const config = readConfig(env);
  const version = await packageVersion();
  const isText =
    config.LOG_FORMAT === 'text' || (config.LOG_FORMAT === 'auto' && process.stdout.isTTY);
  const text = isText ? { colours: process.stdout.hasColors?.() ?? false } : null;
  const tell = (line: string) => {
    if (isText) process.stdout.write(`${line}\n`);
  };
  let server: Server | undefined;
  let isClosing = false;
  const log = openLog(
    config.LOG_LEVEL,
    (lines) => server?.service.metrics.logLinesLost.inc(lines),
    text ? (await import('../terminal-log.ts')).terminalFormat(text.colours) : undefined,
  );
  takeTurns(log);
  process.on('SIGHUP', () => server?.reload());
  // Before anything slow, so that a signal during start-up ends it cleanly, too.
  const graceful = closeWithGrace(
    { delay: config.DRAIN_TIMEOUT_MS, logger: log, skip: ['SIGHUP'] },
    async (cause) => {
      isClosing = true;
      if (cause.err) log.fatal({ err: cause.err }, 'unexpected error');
      log.info({ signal: cause.signal }, 'draining');
      await server?.close();
      await endBegunThread();
      // The start had failed before, and has said why.
      if (process.exitCode) process.exit();
      log.info('drained');
      // Exit code 1, so that a supervisor knows to replace it.
      if (server?.service.state === 'failed') throw new EngineError('the engine failed');
    },
  );
  process.once('exit', () => {
    // None is left after a drain; a second signal, an error or the end of the wait leaves some.
    const threads = stuckThreads() || endThreads(MAX_END_MS);
    if (threads === 0) return;
    // Exiting waits for all threads, these included.
    log.fatal({ threads }, 'engine threads hang: killing the process');
    process.kill(process.pid, 'SIGKILL');
  });
  try {
    const model = await openModel(config.MODEL_DIR);
    // By a signal meanwhile: what is started now would load when the process exits.
    if (isClosing) return;
    tell(`DepthServe ${version}: loading ${model.manifest.name} ${model.manifest.version}`);
    const onFailed = () => graceful.close();
    server = new Server({ config, model, version, log, text, onFailed, onProgress });
    const port = await server.start();
    progress('');
    if (server.service.state === 'ready') tell(readyLine(server.service, config, port));
  } catch (error) {
    // Whatever still runs (the listener, a timer) must not keep a server alive that cannot serve.
    void Promise.all([server?.giveUp(), endBegunThread()]).then(() =>
      setTimeout(() => process.exit(), 100),
    );
    throw error;
  }
}

function onProgress(done: number, of: number): void {
  progress(done < of ? `measuring ${done} of ${of} sub-networks …` : 'measuring batches …');
}

/** Where it listens, and what the budgets of this machine are about. */
function readyLine(service: Service, { HOST }: Config, port: number): string {
  const { manifest, provider, tiers, latency } = service.status().deployment;
  const host = ['0.0.0.0', '::', ''].includes(HOST) ? 'localhost' : HOST;
  const timeOf = ({ skip }: { skip: string }) =>
    `${skip} ${latency.table[skip]![1]!.toFixed(1)} ms`;
  const where = provider === 'cuda' ? 'CUDA' : 'CPU';
  const depths = `quickest ${timeOf(tiers[0]!)}, slowest ${timeOf(tiers.at(-1)!)}`;
  return `ready: http://${host}:${port} (${manifest.name} ${manifest.version}, ${where}, ${depths})`;
}
