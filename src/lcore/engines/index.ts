/**
 * The list of forwarding engines.
 * @module
 */
import { pathToFileURL } from 'node:url';
import { VirtioError } from '../../system/error.ts';
import type { ForwardingEngine } from './engine.ts';
import { fiveTupleSwap } from './five-tuple-swap.ts';
import { flowgen } from './flowgen.ts';
import { io } from './io.ts';
import { mac } from './mac.ts';
import { macswap } from './macswap.ts';
import { rxonly } from './rxonly.ts';
import { txonly } from './txonly.ts';

const engines: readonly ForwardingEngine[] = [io, mac, macswap, flowgen, rxonly, txonly, fiveTupleSwap];

export const engineNames: readonly string[] = engines.map(({ name }) => name);

function isEngine(value: unknown): value is ForwardingEngine {
  return typeof value === 'object' && value !== null && 'forward' in value && typeof value.forward === 'function';
}

/** Node before 22.18 needs a loader for TypeScript; a project with tsx has one. */
async function registerTypeScript(): Promise<void> {
  if (
    (process.features as { readonly typescript?: unknown }).typescript !== undefined &&
    (process.features as { readonly typescript?: unknown }).typescript !== false
  )
    return;
  const { createRequire } = await import('node:module');
  const api = createRequire(`${process.cwd()}/`).resolve('tsx/esm/api');
  const { register } = (await import(pathToFileURL(api).href)) as { readonly register: () => void };
  register();
}

/**
 * The engine of a plan: by its name, or by the URL of a module with an `engine` export.
 * @throws VirtioError ENOENT or EINVAL, naming the module
 */
export async function loadEngine(name: string): Promise<ForwardingEngine> {
  const known = engines.find((engine) => engine.name === name);
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
