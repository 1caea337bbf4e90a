/**
 * Names of forwarding engines: ours, DPDK's that are still missing, older spellings, and modules of the user's.
 * @module
 */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Engines of testpmd 22.11 that are not here yet: answered by name, not as a typing error. */
export const missingEngines: readonly string[] = ['noisy', 'shared_rxq'];

/** Spellings of releases before 17.05, and today's words. */
export const olderEngineNames: Readonly<Record<string, { readonly engine: string; readonly retry: boolean }>> = {
  mac_retry: { engine: 'mac', retry: true },
  mac_fwd: { engine: 'mac', retry: false },
};

/** Engines that make the packets they send. */
const generators: readonly string[] = ['txonly', 'flowgen', 'latency'];

export function makesPackets(engine: string): boolean {
  return generators.includes(engine);
}

/** Engines that write the headers of what they send: these insert a port's VLAN tag too, as in DPDK. */
const taggers: readonly string[] = ['mac', 'macswap', '5tswap', 'txonly', 'flowgen'];

export function insertsVlan(engine: string): boolean {
  return taggers.includes(engine);
}

/** Engines that send out of the port that they receive from. */
export function answersItself(engine: string): boolean {
  return engine === 'icmpecho';
}

/** rxonly sends nothing: there is nothing to try again. */
export function canRetry(engine: string): boolean {
  return engine !== 'rxonly';
}

/** True for the path of a module that exports an engine: `./engine.ts`, `mirror.js`. */
export function isEngineModule(name: string): boolean {
  return /\/|\.[cm]?[jt]s$/.test(name);
}

/** What a ForwardingPlan names the engine by: its name, or the URL of its module. */
export function planEngine(name: string): string {
  return isEngineModule(name) ? pathToFileURL(resolve(name)).href : name;
}
