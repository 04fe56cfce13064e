import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from '../../server.ts';
import { run } from '../../tools.ts';
import type { Resource } from '../render.ts';

/** What build.sh makes. */
const BIN = 'test/k8s/apiserver/bin';
const TOKEN = 'administrator';

/** etcd and kube-apiserver on loopback. No node, no scheduler. */
export interface Cluster {
  /** The server's own certificate and key, for whoever plays an extension of it. */
  readonly tls: { readonly cert: string; readonly key: string };
  /** kubectl as administrator. @param input for `-f -`. @throws what it says when it fails. */
  kubectl(args: readonly string[], input?: string): string;
  /** One call of the API. @returns what it answers, whatever the status. */
  call(method: string, path: string, body?: Resource): Promise<Resource>;
  /** kube-controller-manager, with an autoscaler that decides every second. */
  startControllers(): void;
  stop(): Promise<void>;
}

export async function startCluster(): Promise<Cluster> {
  const folder = await mkdtemp(join(tmpdir(), 'depthserve-kubernetes-'));
  const at = (file: string) => join(folder, file);
  const [store, peer, port] = (await freePorts(3)) as [number, number, number];
  const started: ChildProcess[] = [];

  const { privateKey, publicKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  await writeFile(at('accounts.key'), privateKey);
  await writeFile(at('accounts.pub'), publicKey);
  await writeFile(at('tokens.csv'), `${TOKEN},administrator,1,system:masters\n`);
  const server = `https://127.0.0.1:${port}`;
  const kubeconfig = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'it',
    clusters: [{ name: 'it', cluster: { server, 'insecure-skip-tls-verify': true } }],
    users: [{ name: 'it', user: { token: TOKEN } }],
    contexts: [{ name: 'it', context: { cluster: 'it', user: 'it' } }],
  };
  await writeFile(at('kubeconfig'), JSON.stringify(kubeconfig));

  start('etcd', {
    'data-dir': at('etcd'),
    'listen-client-urls': `http://127.0.0.1:${store}`,
    'advertise-client-urls': `http://127.0.0.1:${store}`,
    'listen-peer-urls': `http://127.0.0.1:${peer}`,
    'initial-advertise-peer-urls': `http://127.0.0.1:${peer}`,
    'initial-cluster': `default=http://127.0.0.1:${peer}`,
    'unsafe-no-fsync': 'true',
  });
  const apiserver = start('kube-apiserver', {
    'etcd-servers': `http://127.0.0.1:${store}`,
    'bind-address': '127.0.0.1',
    'advertise-address': '127.0.0.1',
    'secure-port': `${port}`,
    'cert-dir': folder,
    'endpoint-reconciler-type': 'none',
    'service-cluster-ip-range': '10.0.0.0/24',
    'service-account-issuer': server,
    'service-account-key-file': at('accounts.pub'),
    'service-account-signing-key-file': at('accounts.key'),
    'token-auth-file': at('tokens.csv'),
    'authorization-mode': 'RBAC',
    // As kubeadm has it: who may be privileged is for Pod Security to say.
    'allow-privileged': 'true',
  });
  try {
    while (!(await call('GET', '/readyz').catch(() => null))) {
      if (apiserver.exitCode !== null)
        throw new Error(await readFile(at('kube-apiserver.log'), 'utf8'));
      await sleep(200);
    }
    const [cert, key] = await Promise.all(
      ['apiserver.crt', 'apiserver.key'].map((file) => readFile(at(file), 'utf8')),
    );
    return { tls: { cert: cert!, key: key! }, kubectl, call, startControllers, stop };
  } catch (error) {
    await stop();
    throw error;
  }

  function start(program: string, options: Record<string, string>): ChildProcess {
    const log = openSync(at(`${program}.log`), 'w');
    const args = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
    const child = spawn(join(BIN, program), args, { stdio: ['ignore', log, log] });
    started.push(child);
    return child;
  }

  function startControllers() {
    start('kube-controller-manager', {
      kubeconfig: at('kubeconfig'),
      'secure-port': '0',
      'leader-elect': 'false',
      'service-account-private-key-file': at('accounts.key'),
      'root-ca-file': at('apiserver.crt'),
      // Decisions at once rather than every 15 s; processor use counts from a pod's first moment.
      'horizontal-pod-autoscaler-sync-period': '1s',
      'horizontal-pod-autoscaler-initial-readiness-delay': '0s',
      'horizontal-pod-autoscaler-cpu-initialization-period': '0s',
    });
  }

  function kubectl(args: readonly string[], input = '') {
    const options = ['--kubeconfig', at('kubeconfig')];
    const { code, output } = run(join(BIN, 'kubectl'), [...options, ...args], input);
    if (code !== 0) throw new Error(output);
    return output;
  }

  function call(method: string, path: string, body?: Resource): Promise<Resource> {
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    return new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': type };
      const sent = request(server + path, { method, headers, rejectUnauthorized: false }, (got) => {
        let text = '';
        got.setEncoding('utf8');
        got.on('data', (chunk: string) => (text += chunk));
        got.on('end', () => {
          try {
            resolve(JSON.parse(text));
          } catch {
            if (got.statusCode === 200) resolve({ text });
            else reject(new Error(`${method} ${path}: ${got.statusCode} ${text}`));
          }
        });
      });
      sent.on('error', reject);
      sent.end(body && JSON.stringify(body));
    });
  }

  async function stop() {
    for (const child of started.toReversed()) {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
    }
    await rm(folder, { recursive: true });
  }
}
