import { performance } from 'node:perf_hooks';
import type { FastifyInstance } from 'fastify';
import type { Classifier } from '../deployment.ts';
import { ServeError } from '../errors.ts';
import { isFault, toServeError } from '../http/problem.ts';
import type { Log } from '../log.ts';
import type { Manifest } from '../model/manifest.ts';
import { Cancellation } from '../pipeline/cancellation.ts';
import type { ImageRequest } from '../pipeline/pipeline.ts';
import type { Entered, Service } from '../service.ts';
import type { Classified } from '../telemetry/recorder.ts';
import type { FromFront, Outbox, Question, Seen, ToFront } from './messages.ts';

/** What the main thread's side of every front works with. */
export interface DeskParts {
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
}

/** The requests of one front, on the main thread. */
export class Desk {
  readonly #entries = new Map<number, Entry>();
  /** In the order of their numbers. */
  readonly #versions: Manifest[] = [];

  constructor(
    private readonly parts: DeskParts,
    private readonly outbox: Pick<Outbox<ToFront>, 'post'>,
  ) {}

  receive(message: FromFront): void {
    const { service } = this.parts;
    switch (message.type) {
      case 'enter':
        return this.#enter(message);
      case 'classify':
        return void this.#classify(message);
      case 'answered': {
        const images = this.#entries.get(message.id)?.images;
        if (images) service.recorder.answered({ ...message, images });
        return;
      }
      case 'unanswered': {
        const manifest = this.#versions[message.version] ?? service.manifest;
        return service.recorder.unanswered({ ...message, manifest });
      }
      case 'leave':
        return this.#leave(message.id);
      case 'ask':
        return void this.#reply(message.id, message.question);
      case 'line-lost':
        return service.metrics.logLinesLost.inc();
    }
  }

  /** The front is lost, and all its connections with it. */
  lost(): void {
    for (const [id, { deployment, enteredAt }] of this.#entries) {
      const totalMs = performance.now() - enteredAt;
      const { manifest } = deployment;
      this.parts.service.recorder.unanswered({ code: 'internal', manifest, totalMs });
      this.#leave(id);
    }
  }

  #enter({ id, asks }: Extract<FromFront, { type: 'enter' }>): void {
    try {
      const { deployment, refusal } = this.#entered(id, asks);
      const version = this.#numberOf(deployment.manifest);
      this.outbox.post({ type: 'entered', id, version, refusal });
    } catch (error) {
      this.#fail(id, error);
    }
  }

  /** @throws {ServeError} starting, draining, engine-failed */
  #entered(id: number, asks: ImageRequest | null): Entry & Pick<Entered, 'refusal'> {
    const atClose: (() => void)[] = [];
    const entered = this.parts.service.enter(asks, atClose);
    const cancellation = new Cancellation();
    const entry = { ...entered, atClose, enteredAt: performance.now(), cancellation, images: null };
    this.#entries.set(id, entry);
    return entry;
  }

  async #classify(message: Extract<FromFront, { type: 'classify' }>): Promise<void> {
    const { id, images, areFiles } = message;
    try {
      const entry: Entry = this.#entries.get(id) ?? this.#entered(id, null);
      const { deployment, cancellation } = entry;
      const request = { ...message.request, cancellation };
      const classified = areFiles
        ? await deployment.classify(images.map(bufferOf), request)
        : await deployment.classifyPixels(images, request);
      entry.images = classified;
      const version = this.#numberOf(deployment.manifest);
      this.outbox.post({ type: 'classified', id, version, images: classified.map(seenOf) });
    } catch (error) {
      this.#fail(id, error);
    }
  }

  #leave(id: number): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#entries.delete(id);
    // Nobody waits for what has not begun.
    if (!entry.images) entry.cancellation.cancel(gone());
    for (const act of entry.atClose) act();
  }

  async #reply(id: number, { method, url, headers, body }: Question): Promise<void> {
    try {
      const answer = await this.parts.app.inject({
        method: method as 'GET',
        url,
        headers: headers as Record<string, string>,
        ...(body !== undefined && { payload: body }),
      });
      const { statusCode: status, rawPayload } = answer;
      const bytes = new Uint8Array(rawPayload);
      const reply = { status, headers: answer.headers, body: bytes };
      this.outbox.post({ type: 'reply', id, reply }, [bytes.buffer]);
    } catch (error) {
      this.#fail(id, error);
    }
  }

  #fail(id: number, error: unknown): void {
    const known = toServeError(error);
    // What was thrown stays here: its stack is for the log.
    if (isFault(known.code) && known !== error) this.parts.log.error({ err: error }, known.detail);
    this.outbox.post({ type: 'failed', id, error: known.parts });
  }

  #numberOf(manifest: Manifest): number {
    const known = this.#versions.lastIndexOf(manifest);
    if (known >= 0) return known;
    this.outbox.post({ type: 'version', manifest });
    return this.#versions.push(manifest) - 1;
  }
}

const gone = () => new ServeError('cancelled', 'The client went away before the answer.');

const bufferOf = (bytes: Uint8Array) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** What a front shows of an answer. Logits share the memory of their batch: they are copied. */
function seenOf(image: Classified): Seen {
  const { tier, output, looks } = image;
  return {
    output: output.slice(),
    tier: { skip: tier.skip, accuracy: tier.accuracy, macs: tier.macs },
    looks: looks.map(({ tier, confidence, at }) => ({ skip: tier.skip, confidence, at })),
    arrivedAt: image.arrivedAt,
    predictedMs: image.predictedMs,
    queueMs: image.queueMs,
    decodeMs: image.decodeMs,
    inferenceMs: image.inferenceMs,
    warning: image.warning,
  };
}
