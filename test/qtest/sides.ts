/**
 * Testpmd processes whose port is a virtio-net device inside a QEMU.
 * @module
 */
import { expect } from 'vitest';
import { lcoresArgument } from '../support/program.ts';
import { Testpmd } from '../support/testpmd.ts';

const ARRIVAL_MILLISECONDS = 15_000;
/** Packets sent, at least: a ring of 256 comes round several times. */
const PACKETS = 1500;

export interface QtestSide {
  /** After `--vdev net_virtio_qtest0,`; several: a port each. */
  readonly devices: readonly string[];
  /** 0 or 1: which CPU. */
  readonly cpu?: 0 | 1;
  readonly eal?: readonly string[];
  readonly app?: readonly string[];
}

/** Starts one and does not wait for its prompt. */
export function spawnSide({ devices, cpu = 0, eal = [], app = [] }: QtestSide): Testpmd {
  return Testpmd.spawn({
    program: 'dpdk-ts',
    eal: [...lcoresArgument(cpu), ...devices.flatMap((device, index) => ['--vdev', `net_virtio_qtest${index},${device}`]), ...eal],
    app: ['--total-num-mbufs=4096', ...app],
  });
}

/** Starts one and waits for its prompt. */
export async function startSide(side: QtestSide): Promise<Testpmd> {
  const testpmd = spawnSide(side);
  try {
    return await testpmd.ready();
  } catch (error) {
    await testpmd.kill();
    throw error;
  }
}

/** One port of a process. */
export interface End {
  readonly testpmd: Testpmd;
  readonly port?: number;
}

/**
 * Sends packets one way, on every queue that there is, and expects each of them at the other end, whole. An emulated device on
 * a busy host takes its time for what is in the rings already, so that it is waited for.
 */
export async function expectArrival(from: End, to: End, bytes: number): Promise<number> {
  await to.testpmd.commands('set fwd rxonly', 'start');
  await from.testpmd.commands('set fwd txonly', `set txpkts ${bytes}`);
  const before = [await from.testpmd.statistics(from.port), await to.testpmd.statistics(to.port)] as const;
  await from.testpmd.command('start');
  await from.testpmd.waitForStatistics(
    `${PACKETS} packets sent`,
    (now) => now.txPackets - before[0].txPackets > PACKETS,
    from.port,
    ARRIVAL_MILLISECONDS,
  );
  await from.testpmd.command('stop');
  const { txPackets } = await from.testpmd.statistics(from.port);
  const sent = txPackets - before[0].txPackets;
  const after = await to.testpmd.waitForStatistics(
    `all of ${sent} packets`,
    ({ rxPackets }) => rxPackets - before[1].rxPackets >= sent,
    to.port,
    ARRIVAL_MILLISECONDS,
  );
  await to.testpmd.command('stop');
  expect({
    packets: after.rxPackets - before[1].rxPackets,
    bytes: after.rxBytes - before[1].rxBytes,
    errors: after.rxErrors - before[1].rxErrors,
  }).toEqual({ packets: sent, bytes: sent * bytes, errors: 0 });
  return sent;
}
