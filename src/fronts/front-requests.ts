import { performance } from 'node:perf_hooks';
import type { FastifyInstance } from 'fastify';
import type { Classifier } from '../deployment.ts';
import { clientGone } from '../errors.ts';
import { logged } from '../http/problem.ts';
import type { Log } from '../log.ts';
import type { Manifest } from '../model/manifest.ts';
import { Cancellation } from '../pipeline/cancellation.ts';
import type { ImageRequest } from '../pipeline/pipeline.ts';
import type { Service } from '../service.ts';
import type { Classified } from '../telemetry/recorder.ts';
import type { Calls, FromFront, Outbox, Question, Reply, Seen, ToFront } from './messages.ts';
import type { Tier } from '../scheduler/policy.ts';

/** What the main thread's side of every front works with. */
export interface MainParts {
  readonly service: Service;
  /** Answers what the fronts hand over. */
  readonly app: FastifyInstance;
  readonly log: Log;
}

/** A request that a front has let in. */
interface Entry {
  readonly deployment: Classifier;
  readonly atClose: readonly (() => void)[];
  readonly enteredAt: number;
  readonly cancellation: Cancellation;
  /** Null: not answered. */
  images: readonly Classified[] | null;
  /** What became of it is recorded. */
  isTold: boolean;
}

/** The requests of one front, on the main thread. */
export class FrontRequests {
  readonly #entries = new Map<number, Entry>();
  /** In the order of their numbers. */
  readonly #versions: Manifest[] = [];

  constructor(
    private readonly parts: MainParts,
    private readonly outbox: Pick<Outbox<ToFront>, 'post'>,
  ) {}

  receive(message: FromFront): void {
    const { service } = this.parts;
    switch (message.type) {
      case 'enter':
        return void this.#answer(message.id, () => this.#enter(message.id, message.asks));
      case 'classify':
        return void this.#answer(message.id, () => this.#classify(message));
      case 'ask':
        return void this.#answer(message.id, () => this.#ask(message));
      case 'answered': {
        const entry = this.#entries.get(message.id);
        if (!entry?.images) return;
        entry.isTold = true;
        service.recorder.answered({ ...message, images: entry.images });
        return;
      }
      case 'unanswered': {
        const manifest = this.#versions[message.version] ?? service.manifest;
        return service.recorder.unanswered({ ...message, manifest });
      }
      case 'leave':
        return this.#leave(message.id);
      case 'lines-lost':
        return service.metrics.logLinesLost.inc(message.lines);
    }
  }

  /** The front is lost, and all its connections with it. */
  lost(): void {
    for (const [id, { deployment, enteredAt, isTold }] of this.#entries) {
      const totalMs = performance.now() - enteredAt;
      const { manifest } = deployment;
      if (!isTold) this.parts.service.recorder.unanswered({ code: 'internal', manifest, totalMs });
      this.#leave(id);
    }
  }

  async #answer<Result>(id: number, result: () => Result | Promise<Result>): Promise<void> {
    try {
      this.outbox.post({ type: 'result', id, result: await result() });
    } catch (error) {
      // What was thrown stays here: its stack is for the log.
      const { parts } = logged(error, this.parts.log, {});
      this.outbox.post({ type: 'failed', id, error: parts });
    }
  }

  #enter(id: number, asks: ImageRequest | null): Calls['enter']['gives'] {
    const { entry, refusal } = this.#entered(id, asks);
    return { version: this.#numberOf(entry.deployment.manifest), refusal };
  }

  /** @throws {ServeError} starting, draining, engine-failed */
  #entered(id: number, asks: ImageRequest | null) {
    const atClose: (() => void)[] = [];
    const { deployment, refusal } = this.parts.service.enter(asks, atClose);
    const cancellation = new Cancellation();
    const enteredAt = performance.now();
    const entry: Entry = {
      deployment,
      atClose,
      enteredAt,
      cancellation,
      images: null,
      isTold: false,
    };
    if (!refusal) this.#entries.set(id, entry);
    return { entry, refusal };
  }

  async #classify(message: Extract<FromFront, { type: 'classify' }>) {
    const { id, images, areFiles } = message;
    const entry = this.#entries.get(id) ?? this.#entered(id, null).entry;
    const { deployment, cancellation } = entry;
    const request = { ...message.request, cancellation };
    entry.images = areFiles
      ? await deployment.classify(images.map(bufferOf), request)
      : await deployment.classifyPixels(images, request);
    return { version: this.#numberOf(deployment.manifest), images: entry.images.map(seenOf) };
  }

  #leave(id: number): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#entries.delete(id);
    // Nobody waits for what has not begun.
    if (!entry.images) entry.cancellation.cancel(clientGone());
    for (const act of entry.atClose) act();
  }

  async #ask({ method, url, headers, body }: Question): Promise<Reply> {
    const answer = await this.parts.app.inject({
      method: method as 'GET',
      url,
      headers: headers as Record<string, string>,
      ...(body !== undefined && { payload: body }),
    });
    // A copy: the payload may be a part of a larger buffer, all of which would be sent.
    const bytes = new Uint8Array(answer.rawPayload);
    return { status: answer.statusCode, headers: answer.headers, body: bytes };
  }

  #numberOf(manifest: Manifest): number {
    const known = this.#versions.lastIndexOf(manifest);
    if (known >= 0) return known;
    this.outbox.post({ type: 'version', manifest });
    return this.#versions.push(manifest) - 1;
  }
}

const bufferOf = (bytes: Uint8Array) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** What a front shows of an answer. Logits share the memory of their batch: they are copied. */
function seenOf(classified: Classified): Seen {
  const { manifest: _manifest, best: _best, stages: _stages, ...image } = classified;
  const { tier, output, looks } = image;
  return {
    ...image,
    output: output.slice(),
    tier: bare(tier),
    looks: looks.map((look) => ({ ...look, tier: bare(look.tier), output: NOTHING })),
  };
}

const NOTHING = new Float32Array();

/** Without what it knows of second looks. */
const bare = ({ skip, accuracy, macs }: Tier): Tier => ({ skip, accuracy, macs });
