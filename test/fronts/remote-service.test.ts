import { describe, expect, test } from 'vitest';
import type { Config } from '../../src/config.ts';
import type { FromFront, Outbox } from '../../src/fronts/messages.ts';
import { RemoteService } from '../../src/fronts/remote-service.ts';
import { Cleanup } from '../../src/http/cleanup.ts';

const ASKS = { arrivedAt: 0, budgetMs: 100, minAccuracy: 0 };

function remote() {
  const posted: FromFront[] = [];
  const post = (message: FromFront) => void posted.push(message);
  const outbox = { post, postLater: post } as unknown as Outbox<FromFront>;
  return { posted, service: new RemoteService({} as Config, outbox, 10, () => 3) };
}

describe('a front tells the main thread', () => {
  // The main thread's own lag says nothing of it.
  test('when a request came, on its clock, and how long it may have waited for this front', () => {
    const { posted, service } = remote();
    void service.enter(ASKS, new Cleanup(), false);
    expect(posted[0]).toMatchObject({ asks: { arrivedAt: 10, unreadMs: 3 } });
  });

  test('that a request is over which it has let in', async () => {
    const { posted, service } = remote();
    const cleanup = new Cleanup();
    const entered = service.enter(ASKS, cleanup, false);
    service.receive({ type: 'result', id: 0, result: { version: 0, refusal: null } });
    await entered;
    cleanup.run();
    expect(posted.map(({ type }) => type)).toEqual(['enter', 'leave']);
  });

  test('nothing more of one that it refused: nothing is kept for it', async () => {
    const { posted, service } = remote();
    const cleanup = new Cleanup();
    const entered = service.enter(ASKS, cleanup, false);
    const refusal = { reason: 'overload', smallestBudgetMs: 9 };
    service.receive({ type: 'result', id: 0, result: { version: 0, refusal } });
    await entered;
    cleanup.run();
    expect(posted.map(({ type }) => type)).toEqual(['enter']);
  });

  // It would be kept for ever, and with it the version of the model.
  test('nothing of one whose client has gone away before it was asked', () => {
    const { posted, service } = remote();
    const cleanup = new Cleanup();
    cleanup.run();
    expect(() => service.enter(ASKS, cleanup, false)).toThrow(
      'The client went away before the answer.',
    );
    expect(posted).toEqual([]);
  });
});

describe('the cleanup of a request', () => {
  test('does everything once, and at once what comes after it', () => {
    const done: string[] = [];
    const cleanup = new Cleanup();
    cleanup.push(() => done.push('a'));
    cleanup.push(() => done.push('b'));
    cleanup.run();
    cleanup.run();
    expect(done).toEqual(['a', 'b']);
    cleanup.push(() => done.push('late'));
    expect(done).toEqual(['a', 'b', 'late']);
  });

  test('does the rest where something fails, and does not hide it', () => {
    const done: string[] = [];
    const cleanup = new Cleanup();
    cleanup.push(() => {
      throw new Error('no log');
    });
    cleanup.push(() => done.push('a'));
    expect(() => cleanup.run()).toThrow('no log');
    expect(done).toEqual(['a']);
  });
});
