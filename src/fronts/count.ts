import type { Config } from '../config.ts';

/** How many fronts there are, and why there are not as many as the settings say. */
export interface FrontCount {
  /** Threads beside the main one; 0: that speaks HTTP itself. */
  readonly threads: number;
  /** Null: as many as the settings say. */
  readonly reason: string | null;
}

/** Settings whose state is on the thread that speaks HTTP. */
const ON_ONE_THREAD = ['TOKENS_FILE', 'OTEL_EXPORTER_OTLP_ENDPOINT'] as const;

/**
 * @param node version of Node, such as 22.12.0.
 */
export function countFronts(
  config: Pick<Config, 'FRONTS' | (typeof ON_ONE_THREAD)[number]>,
  node: string = process.versions.node,
  platform: NodeJS.Platform = process.platform,
): FrontCount {
  if (config.FRONTS === 1) return { threads: 0, reason: null };
  const setting = ON_ONE_THREAD.find((name) => config[name] !== '');
  if (setting !== undefined) return { threads: 0, reason: `${setting} is set` };
  if (canSharePort(node, platform)) return { threads: config.FRONTS, reason: null };
  // The main thread has less to do even so.
  return { threads: 1, reason: 'threads share a port on Linux only, with Node 22.12 or newer' };
}

/** Whether several may listen on one port (`reusePort`), and the kernel spreads connections. */
function canSharePort(node: string, platform: NodeJS.Platform): boolean {
  const [major = 0, minor = 0] = node.split('.').map(Number);
  return platform === 'linux' && (major > 22 || (major === 22 && minor >= 12));
}
