/**
 * A network namespace for the tests of one file: nothing of the machine's network is touched, and everything made in it goes with
 * the process. Only this thread moves in; processes that it starts inherit the namespace.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { bindNative } from '../../src/system/ffi.ts';
import { interfaceNames } from '../../src/system/network-interface.ts';
import { findExecutable } from './program.ts';

const CLONE_NEWNET = 0x40000000;

/** Why there can be no namespace here, or undefined. */
export const WHY_NO_NETWORK: string | undefined =
  process.getuid?.() !== 0 ? 'not root' : findExecutable('ip') === undefined ? 'no ip: apt-get install iproute2' : undefined;

/** Moves the main thread, for the rest of its life, into a namespace of its own. */
export function enterNetworkNamespace(): void {
  const { value } = bindNative('unshare', 'i32', ['i32'])(CLONE_NEWNET);
  if (value !== 0) throw new Error('unshare(CLONE_NEWNET) failed');
  ip('link set lo up');
}

/** Runs `ip` of iproute2 and returns what it prints. */
export function ip(command: string): string {
  const { status, stdout, stderr } = spawnSync(findExecutable('ip') ?? 'ip', command.split(' '), { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${command}: ${stderr}`);
  return stdout;
}

/** Makes a pair of veth interfaces with `queues` queues each and without IPv6, so that the kernel sends nothing of its own; both up. */
export function makeVeth(a: string, b: string, mtu = 1500, queues = 1): void {
  const both = `mtu ${mtu} numrxqueues ${queues} numtxqueues ${queues}`;
  ip(`link add ${a} ${both} type veth peer name ${b} ${both}`);
  for (const name of [a, b]) ip(`link set ${name} addrgenmode none up`);
}

/** Removes the interfaces that a test made in the namespace, as far as they are still there. */
export function removeInterfaces(): void {
  for (const name of interfaceNames()) {
    // the other end of a pair goes with the first
    if (name !== 'lo' && interfaceNames().includes(name)) ip(`link del ${name}`);
  }
}
