/**
 * Start-up: from exec to the prompt, from exec of the sending end to the first packet at the receiving one, and memory.
 * @module
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { CASES, type BenchCase, type Pairing } from './cases.ts';
import { processMemory, type ProcessMemory } from './process-memory.ts';
import type { ProgramName } from './programs.ts';
import type { Testpmd } from './testpmd-process.ts';
import { freshSocket, readStats, startEnd, type Setting } from './ends.ts';

export interface StartUpResult {
  readonly program: ProgramName;
  /** The vhost end, which listens. */
  readonly vhostPromptMs: number;
  /** The virtio_user end, which connects, `--auto-start`s and sends. */
  readonly virtioPromptMs: number;
  readonly firstPacketMs: number;
  /** While forwarding. */
  readonly memory: Readonly<Record<'virtio' | 'vhost', ProcessMemory>>;
}

/** DPDK's server looks at a new socket only when its poll ends, so a front-end that comes sooner waits up to 0.9 s, whoever it is. */
const SERVER_SETTLES_MS = 1_200;
const FIRST_PACKET_TIMEOUT_MS = 15_000;

/** One start of the program at both ends. */
export async function measureStartUp(setting: Setting, program: ProgramName): Promise<StartUpResult> {
  const benchCase: BenchCase = { name: 'start-up', title: 'start-up', segments: CASES[0]?.segments ?? [64], unit: 'Mpps' };
  const pairing: Pairing = { name: `${program}-${program}`, virtio: program, vhost: program };
  const socket = freshSocket(setting);
  await using vhost = await startEnd(setting, benchCase, pairing, 'vhost', socket);
  await vhost.command('set fwd rxonly');
  await vhost.command('start');
  await sleep(SERVER_SETTLES_MS, undefined, { signal: setting.signal });
  const execAt = performance.now();
  const starting = startEnd(setting, benchCase, pairing, 'virtio', socket, ['--auto-start', '--forward-mode=txonly']);
  let firstPacketMs: number | undefined;
  try {
    firstPacketMs = await untilFirstPacket(vhost, execAt, starting, setting.signal);
  } catch (error) {
    await starting.then(
      (virtio) => virtio[Symbol.asyncDispose](),
      () => undefined,
    );
    throw error;
  }
  await using virtio = await starting;
  if (firstPacketMs === undefined) {
    throw new Error(`no packet within ${FIRST_PACKET_TIMEOUT_MS} ms`);
  }
  const memory = { virtio: processMemory(virtio.pid), vhost: processMemory(vhost.pid) };
  await virtio.quit();
  await vhost.quit();
  return { program, vhostPromptMs: vhost.startUpMs, virtioPromptMs: virtio.startUpMs, firstPacketMs, memory };
}

/** The packets may come before the sender's prompt or after it. Undefined when none came; a start that failed is the caller's to report. */
async function untilFirstPacket(
  receiver: Testpmd,
  execAt: number,
  starting: Promise<Testpmd>,
  signal: AbortSignal,
): Promise<number | undefined> {
  const state = { failed: false };
  starting.catch(() => (state.failed = true));
  while (!state.failed && performance.now() - execAt < FIRST_PACKET_TIMEOUT_MS) {
    const stats = await readStats({ testpmd: receiver, port: 0 });
    if (stats.rxPackets > 0) {
      return performance.now() - execAt;
    }
    await sleep(1, undefined, { signal });
  }
  return undefined;
}
