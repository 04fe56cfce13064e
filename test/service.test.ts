import { expect, test, vi } from 'vitest';
import { VirtualClock } from '../bench/simulator/clock.ts';
import { readConfig } from '../src/config.ts';
import { Deployment } from '../src/deployment.ts';
import { EngineError } from '../src/engine/protocol.ts';
import type { Log } from '../src/log.ts';
import type { Model } from '../src/model/manifest.ts';
import { Service } from '../src/service.ts';
import type { DeploymentOptions } from '../src/start-deployment.ts';
import { fakeParts } from './fake-deployment.ts';

const PROFILE = {
  name: 'test-model',
  tiers: [
    { skip: 'T', accuracy: 0.7, macs: 1 },
    { skip: 'F', accuracy: 0.8, macs: 2 },
  ],
  latency: { T: { 1: 10 }, F: { 1: 20 } },
  engineWorkers: 1,
  maxBatch: 1,
};

/** Called before a version that is warm is given to the service. */
const started = vi.hoisted(() => ({ warm: (_options: DeploymentOptions) => {} }));

vi.mock('../src/start-deployment.ts', () => ({
  async startDeployment(options: DeploymentOptions) {
    const deployment = new Deployment(fakeParts(PROFILE, new VirtualClock()));
    started.warm(options);
    return deployment;
  },
}));

test('an engine that fails as soon as it is warm fails the service', async () => {
  const { model } = fakeParts(PROFILE, new VirtualClock());
  const error = new EngineError('lost');
  started.warm = ({ onFailed }) => onFailed(error);
  const fatal = vi.fn<Log['fatal']>();
  const log = { info() {}, warn() {}, error() {}, fatal };
  const failed = new Promise<void>((resolve) => {
    const config = { ...readConfig({}), GPU_SAMPLE_SECONDS: 0 };
    void new Service(config, model as Model, log, resolve).start();
  });
  await failed;
  expect(fatal).toHaveBeenCalledWith({ err: error }, 'the engine failed');
});
