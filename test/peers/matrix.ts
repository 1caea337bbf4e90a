/**
 * The four ways in which our program meets DPDK: as driver or device, as client or server of the socket.
 *
 * DPDK_TS_TEST_SIDES=dpdk,dpdk (driver, device) runs the same cases with other programs, to tell a fault of a test from a fault of ours.
 * @module
 */
import { whyMissing, type Program } from '../support/program.ts';
import type { Side } from '../support/pair.ts';

export interface Meeting {
  readonly name: string;
  readonly ours: Side;
  readonly server: Side;
  readonly driver: Program;
  readonly device: Program;
}

function forcedPrograms(): readonly [Program, Program] | undefined {
  const [driver, device] = (process.env['DPDK_TS_TEST_SIDES'] ?? '').split(',');
  const known = (name: string | undefined): name is Program => name === 'dpdk' || name === 'dpdk-ts';
  return known(driver) && known(device) ? [driver, device] : undefined;
}

const FORCED = forcedPrograms();

function meeting(ours: Side, server: Side): Meeting {
  const [driver, device] = FORCED ?? (ours === 'driver' ? ['dpdk-ts', 'dpdk'] : ['dpdk', 'dpdk-ts']);
  const name = `${driver} virtio_user (${server === 'driver' ? 'server' : 'client'}) with ${device} net_vhost`;
  return { name, ours, server, driver, device };
}

export const MEETINGS: readonly Meeting[] = [
  meeting('driver', 'device'),
  meeting('driver', 'driver'),
  meeting('device', 'device'),
  meeting('device', 'driver'),
].filter(({ name }, index, all) => all.findIndex((other) => other.name === name) === index);

/** Why no meeting can take place here, or undefined. */
export const WHY_NO_PEERS: string | undefined = (FORCED ?? (['dpdk-ts', 'dpdk'] as const)).map(whyMissing).find((why) => why !== undefined);
