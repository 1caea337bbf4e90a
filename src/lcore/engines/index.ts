/**
 * The list of forwarding engines.
 * @module
 */
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { VirtioError } from '../../system/error.ts';
import type { ForwardingEngine } from './engine.ts';
import { csum } from './csum.ts';
import { fiveTupleSwap } from './five-tuple-swap.ts';
import { flowgen } from './flowgen.ts';
import { icmpecho } from './icmpecho.ts';
import { io } from './io.ts';
import { l3fwd } from './l3fwd.ts';
import { latency } from './latency.ts';
import { mac } from './mac.ts';
import { macswap } from './macswap.ts';
import { rxonly } from './rxonly.ts';
import { txonly } from './txonly.ts';

const engines: readonly ForwardingEngine[] = [io, mac, macswap, flowgen, rxonly, txonly, csum, icmpecho, fiveTupleSwap, latency];

/** Engines that need more than streams: testpmd has no use for them. */
const routingEngines: readonly ForwardingEngine[] = [l3fwd];

export const engineNames: readonly string[] = engines.map(({ name }) => name);

function isEngine(value: unknown): value is ForwardingEngine {
  return typeof value === 'object' && value !== null && 'forward' in value && typeof value.forward === 'function';
}

/** Node before 22.18 needs a loader for TypeScript; a project with tsx has one. */
async function registerTypeScript(): Promise<void> {
  const { typescript } = process.features as { readonly typescript?: unknown };
  if (typescript !== undefined && typescript !== false) return;
  const { createRequire } = await import('node:module');
  let manifest: string;
  try {
    manifest = createRequire(`${process.cwd()}/`).resolve('tsx/package.json');
  } catch (cause) {
    throw new Error(`Node ${process.versions.node} reads TypeScript only with tsx: install it (npm install tsx), or give a .js file`, {
      cause,
    });
  }
  // by the entry for import: the one for require cannot register from a Worker
  const { exports } = JSON.parse(readFileSync(manifest, 'utf8')) as { readonly exports: Readonly<Record<string, unknown>> };
  const entry = exports['./esm/api'] as { readonly import: { readonly default: string } };
  const { register } = (await import(new URL(entry.import.default, pathToFileURL(manifest)).href)) as { readonly register: () => void };
  register();
}

/**
 * The engine of a plan: by its name, or by the URL of a module with an `engine` export.
 * @throws VirtioError ENOENT or EINVAL, naming the module
 */
export async function loadEngine(name: string): Promise<ForwardingEngine> {
  const known = [...engines, ...routingEngines].find((engine) => engine.name === name);
  if (known !== undefined) return known;
  try {
    if (/\.[cm]?ts$/.test(name)) await registerTypeScript();
    const { engine } = (await import(name)) as { readonly engine?: unknown };
    if (isEngine(engine)) return engine;
  } catch (cause) {
    throw new VirtioError(`forwarding engine ${name}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      code: 'ENOENT',
      cause,
    });
  }
  throw new VirtioError(`forwarding engine ${name}: the module has no export 'engine' with a forward(stream) function`, { code: 'EINVAL' });
}
