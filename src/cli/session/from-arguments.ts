/**
 * Arguments of the command line as options of a session.
 * @module
 */
import type { MacAddress } from '../../net/mac-address.ts';
import type { TestpmdOptions } from '../arguments/testpmd-settings.ts';
import type { SessionOptions } from './options.ts';

/** `peersInFile`: the addresses of --eth-peers-configfile, the first for port 0; --eth-peer overrides them. */
export function sessionOptions(options: TestpmdOptions, peersInFile: readonly MacAddress[] = []): SessionOptions {
  return {
    interactive: options.interactive,
    autoStart: options.autoStart,
    commandFile: options.cmdlineFile,
    txFirst: options.txFirst,
    statsPeriod: options.statsPeriod,
    // io is what happens when nothing is said.
    forwardMode: options.forwardMode === 'io' && !options.retry ? undefined : options.forwardMode,
    retry: options.retry,
    topology: options.portTopology,
    burst: options.burst,
    txSegments: options.txpkts,
    txRate: options.txrate,
    flowgenFlows: options.flowgenFlows,
    flushRx: options.flushRx,
    rxQueues: options.rxq,
    txQueues: options.txq,
    rxDescriptors: options.rxd,
    txDescriptors: options.txd,
    rxOffloads: options.rxOffloads,
    txOffloads: options.txOffloads,
    maxPacketLength: options.maxPktLen,
    maxLroPacketSize: options.maxLroPktSize,
    rssTypes: options.rssTypes,
    dropEnable: options.dropEnable,
    mbufSize: options.mbufSize,
    cores: options.nbCores,
    ports: options.nbPorts,
    forwardingLcores: options.forwardingLcores,
    forwardingPorts: options.forwardingPorts,
    peers: new Map([...peersInFile.entries(), ...options.ethPeers.map(({ port, mac }) => [port, mac] as const)]),
    linkCheck: options.linkCheck,
    linkInterrupt: options.lscInterrupt,
    startPorts: options.deviceStart,
    printEvents: options.printEvents,
    captures: options.captures,
  };
}
