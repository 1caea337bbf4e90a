/**
 * Testpmd processes whose port is a virtio-net device inside a QEMU.
 * @module
 */
import { lcoresArgument } from '../support/program.ts';
import { Testpmd } from '../support/testpmd.ts';

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
