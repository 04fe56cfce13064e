/**
 * One front: a thread that speaks HTTP. What its requests ask is decided on the main thread; what
 * they send and get is read and written here.
 */
import { performance } from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { EventLoopLag } from '../event-loop-lag.ts';
import { buildApp } from '../http/app.ts';
import { listenOptions, waitingTaken } from '../http/listening.ts';
import { SharedCounter } from '../http/shared-counter.ts';
import { openLog } from '../log.ts';
import type { Service } from '../service.ts';
import { elsewhere } from './elsewhere.ts';
import { Outbox, clockOrigin } from './messages.ts';
import type { FromFront, FrontOptions, ToFront } from './messages.ts';
import { RemoteService } from './remote-service.ts';

const options = workerData as FrontOptions;
const { config, version, text, port, place, sharesPort } = options;
const main = parentPort!;
const outbox = new Outbox<FromFront>(main);
const lag = new EventLoopLag();
const unreadMs = () => lag.ms(performance.now());
const service = new RemoteService(config, outbox, clockOrigin() - options.origin, unreadMs);

const log = openLog(
  config.LOG_LEVEL,
  (lines) => outbox.post({ type: 'lines-lost', lines }),
  text ? (await import('../terminal-log.ts')).terminalFormat(text.colours) : undefined,
);
const app = await buildApp(service as unknown as Service, log, version, null, {
  bytes: new SharedCounter(options.bytes, place),
  connections: new SharedCounter(options.connections, place),
  aside: elsewhere(service),
});

main.on('message', (messages: readonly ToFront[]) => {
  for (const message of messages) {
    service.receive(message);
    if (message.type === 'drain') void drain();
  }
});

async function drain(): Promise<void> {
  await waitingTaken();
  await app.close();
  // After the last connection has said what became of its request.
  await nextTurn();
  outbox.flush();
  // Ends this thread, which writes the rest of its log.
  process.exit();
}

const where = { ...listenOptions(config.HOST, port), reusePort: sharesPort };
await app.listen(where);
outbox.post({ type: 'listening' });
